package htpasswd

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// Commands are add, passwd and list of a program's command "user".
func Commands(program string) []cli.Command {
	name := program + " user "
	in := os.Stdin
	return []cli.Command{{
		Name: "add", Args: "[FILE] NAME", Summary: "add a user to the password file that a config file names",
		Example: name + "add config.json alice\n" + name + "add --htpasswd /etc/berth/htpasswd alice < password.txt",
		Run: func(_ context.Context, f *flag.FlagSet, args []string, out io.Writer) error {
			return set(f, args, in, out, true)
		},
	}, {
		Name: "passwd", Args: "[FILE] NAME", Summary: "change a user's password in the password file",
		Example: name + "passwd config.json alice",
		Run: func(_ context.Context, f *flag.FlagSet, args []string, out io.Writer) error {
			return set(f, args, in, out, false)
		},
	}, {
		Name: "list", Args: "[FILE]", Summary: "list the users of the password file, and how their passwords are hashed",
		Example: name + "list config.json",
		Run: func(_ context.Context, f *flag.FlagSet, args []string, out io.Writer) error {
			return list(f, args, out)
		},
	}}
}

// where returns the password file and the arguments that are left, of which there
// must be n.
func where(f *flag.FlagSet, args []string, n int) (file string, rest []string, err error) {
	f.StringVar(&file, "htpasswd", "", "the password `FILE`, in place of a config file that names it")
	args, err = cli.ParseArgs(f, args, n+1)
	if err != nil {
		return "", nil, err
	}
	if file == "" {
		n++
	}
	if len(args) != n {
		return "", nil, daemon.Exit{Code: cli.ExitUsage, Err: fmt.Errorf("%s: %d arguments are needed; see --help", f.Name(), n)}
	}
	if file != "" {
		return file, args, nil
	}
	c, _, err := config.Load(args[0])
	if err != nil {
		return "", nil, err
	}
	if c.HTTP.Auth == nil || c.HTTP.Auth.HTPasswd == nil {
		return "", nil, fmt.Errorf("%s names no password file (http.auth.htpasswd.path)", args[0])
	}
	return c.HTTP.Auth.HTPasswd.Path, args[1:], nil
}

func set(f *flag.FlagSet, args []string, in *os.File, out io.Writer, add bool) error {
	cost := f.Int("cost", DefaultCost, "bcrypt `COST`, 4 to 14: each one more doubles the time of a login")
	file, rest, err := where(f, args, 1)
	if err != nil {
		return err
	}
	if err := CheckName(rest[0]); err != nil {
		return err
	}
	password, err := askPassword(in, os.Stderr)
	if err != nil {
		return err
	}
	hash, err := Hash(password, *cost)
	if err != nil {
		return err
	}
	if err := Set(file, rest[0], hash, add); err != nil {
		return err
	}
	what := "changed the password of"
	if add {
		what = "added"
	}
	_, err = fmt.Fprintf(out, "%s %s in %s; a server that runs takes it over within seconds\n", what, rest[0], file)
	return err
}

func list(f *flag.FlagSet, args []string, out io.Writer) error {
	file, _, err := where(f, args, 0)
	if err != nil {
		return err
	}
	users, _, err := load(file)
	if err != nil {
		return err
	}
	for _, name := range users.Names() {
		if _, err := fmt.Fprintf(out, "%s\t%s\n", name, users.Scheme(name)); err != nil {
			return err
		}
	}
	return nil
}

// askPassword reads a password: twice and unseen from a terminal, else one line.
func askPassword(in *os.File, prompt io.Writer) (string, error) {
	fd := int(in.Fd())
	if !term.IsTerminal(fd) {
		line, err := bufio.NewReader(io.LimitReader(in, maxPassword+2)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		return checkPassword(strings.TrimRight(line, "\r\n"))
	}
	var typed [2]string
	for i, text := range []string{"Password: ", "Again: "} {
		fmt.Fprint(prompt, text)
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(prompt)
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		typed[i] = string(b)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ")
	}
	return checkPassword(typed[0])
}

// bcryptPassword is how many bytes of a password bcrypt looks at.
const bcryptPassword = 72

func checkPassword(p string) (string, error) {
	switch {
	case p == "":
		return "", errors.New("the password is empty")
	case len(p) > bcryptPassword:
		return "", fmt.Errorf("the password has more than %d bytes, of which bcrypt would ignore the rest", bcryptPassword)
	}
	return p, nil
}
