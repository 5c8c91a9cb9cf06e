// Command sizes tells what each module costs a program: its code and data, and
// its share of the tables that the linker makes for all code. `make size` runs it.
package main

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	for _, program := range os.Args[1:] {
		if err := report(os.Stdout, program); err != nil {
			fmt.Fprintln(os.Stderr, "sizes:", err)
			os.Exit(1)
		}
	}
}

// report builds a program, a package path, and prints its table.
func report(w io.Writer, program string) error {
	dir, err := os.MkdirTemp("", "sizes")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	modules, err := modulesOf(program)
	if err != nil {
		return err
	}
	with, without := filepath.Join(dir, "with"), filepath.Join(dir, "without")
	for file, flags := range map[string]string{with: "-w", without: "-s -w"} {
		if _, err := goTool("build", "-tags", "grpcnotrace", "-trimpath", "-ldflags", flags, "-o", file, program); err != nil {
			return err
		}
	}
	info, err := os.Stat(without)
	if err != nil {
		return err
	}
	c, err := count(with, modules)
	if err != nil {
		return err
	}
	return c.print(w, filepath.Base(program), info.Size())
}

// goTool runs the go command as the programs are built.
func goTool(args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	return out, nil
}

const ours = "berth itself"

// modulesOf returns the module of each package in a program.
func modulesOf(program string) (map[string]string, error) {
	out, err := goTool("list", "-deps", "-tags", "grpcnotrace", "-f", "{{.ImportPath}} {{with .Module}}{{.Path}}{{end}}", program)
	if err != nil {
		return nil, err
	}
	modules := map[string]string{"main": ours}
	for line := range strings.Lines(string(out)) {
		path, module, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case module == "":
			module = "std"
		case strings.HasPrefix(module, "github.com/berth-registry/berth/"):
			module = ours
		}
		modules[path] = module
	}
	return modules, nil
}

// counts are bytes of a file, by module.
type counts struct {
	own, code map[string]int64
	perCode   int64 // tables with entries for functions and lines
}

// count adds up the symbols of a program that was not stripped.
func count(file string, modules map[string]string) (counts, error) {
	c := counts{own: map[string]int64{}, code: map[string]int64{}}
	f, err := elf.Open(file)
	if err != nil {
		return c, err
	}
	defer f.Close()
	if s := f.Section(".gopclntab"); s != nil {
		c.perCode = int64(s.Size)
	}
	symbols, err := f.Symbols()
	if err != nil {
		return c, fmt.Errorf("reading symbols: %w", err)
	}
	for _, s := range symbols {
		if int(s.Section) >= len(f.Sections) || s.Section == elf.SHN_UNDEF {
			continue
		}
		section := f.Sections[s.Section]
		if section.Type == elf.SHT_NOBITS || section.Name == ".gopclntab" {
			continue // not in the file; counted as a whole
		}
		module, ok := modules[packageOf(s.Name)]
		if !ok {
			continue
		}
		c.own[module] += int64(s.Size)
		if section.Name == ".text" {
			c.code[module] += int64(s.Size)
		}
	}
	if len(c.code) < 2 || c.perCode == 0 {
		return c, errors.New("the symbols of the program tell nothing: the linker names them in another way")
	}
	return c, nil
}

// packageOf returns the import path in a symbol's name, such as
// "google.golang.org/grpc.(*Server).Serve" or "type:*net/http.Request".
func packageOf(symbol string) string {
	for _, prefix := range []string{"type:.eq.", "type:.hash.", "type:.namedata.", "type:", "go:itab.", "go:", "_"} {
		symbol = strings.TrimPrefix(symbol, prefix)
	}
	symbol = strings.TrimLeft(symbol, "*[]")
	if i := strings.IndexAny(symbol, "[({ ,"); i >= 0 {
		symbol = symbol[:i]
	}
	slash := strings.LastIndexByte(symbol, '/') + 1
	name, _, _ := strings.Cut(symbol[slash:], ".")
	return strings.ReplaceAll(symbol[:slash]+name, "%2e", ".")
}

// print writes the table for a stripped file of total bytes, the largest first.
func (c counts) print(w io.Writer, program string, total int64) error {
	var allCode, sum int64
	for _, n := range c.code {
		allCode += n
	}
	share := make(map[string]int64, len(c.own))
	for m, n := range c.own {
		share[m] = n + c.perCode*c.code[m]/allCode
		sum += share[m]
	}
	share["(types, strings and what belongs to none)"] = total - sum
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: %.2f MB\n", program, float64(total)/1e6)
	small := int64(0)
	for _, m := range slices.SortedFunc(maps.Keys(share), func(x, y string) int { return cmp.Compare(share[y], share[x]) }) {
		if share[m] < 10_000 {
			small += share[m]
			continue
		}
		fmt.Fprintf(&b, "%8.2f MB %5.1f %%  %s\n", float64(share[m])/1e6, 100*float64(share[m])/float64(total), m)
	}
	fmt.Fprintf(&b, "%8.2f MB         modules below 10 kB\n", float64(small)/1e6)
	_, err := w.Write(b.Bytes())
	return err
}
