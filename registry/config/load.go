package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
)

// Load reads the file at keyPath, expands environment variables in it and checks
// every value. What only some programs need is checked by [Config.ValidateFor],
// and what is not built yet by [Config.Unbuilt]; [LoadFor] does all of it.
//
// The error joins one *[Error] for each thing wrong, with file, line and key.
func Load(path string) (*Config, []Warning, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(path, data, os.LookupEnv)
}

// LoadFor loads the file for one program and makes all checks, so that what it
// returns can be started. accept lists keys as in [Config.Unbuilt]. An all-in-one
// program may have no file (an empty path) and gets [WithoutFile].
func LoadFor(path string, program Program, accept []string) (*Config, []Warning, error) {
	var c *Config
	var warnings []Warning
	if path == "" {
		c = WithoutFile()
	} else {
		var err error
		if c, warnings, err = Load(path); err != nil {
			return nil, warnings, err
		}
	}
	unbuilt, err := c.Unbuilt(accept)
	warnings = append(warnings, unbuilt...)
	return c, warnings, errors.Join(c.ValidateFor(program), err)
}

// Parse is [Load] without touching the world: name tells the format by its
// extension and stands in messages, env looks up environment variables.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, []Warning, error) {
	p := &parser{file: name, env: env}
	root, err := p.tree(data)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.File = name
		}
		return nil, nil, err
	}
	c := Defaults()
	c.file = file{name: name, root: root}
	p.decode(schema(), root, reflect.ValueOf(c).Elem(), nil)
	if err := errors.Join(p.errs...); err != nil {
		return nil, p.warnings, err
	}
	check := c.check()
	warnings := append(p.warnings, check.warnings...)
	if err := check.err(); err != nil {
		return nil, warnings, err
	}
	return c, warnings, nil
}
