package contents

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// cargoLock reads Cargo.lock, which cargo writes in one form: a table of each crate, with
// its name and version in lines of their own.
func cargoLock(f *told, r io.Reader) error {
	f.Kind = Cargo
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	var p Package
	flush := func() error {
		err := f.add(p)
		p = Package{}
		return err
	}
	crate := false
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			if err := flush(); err != nil {
				return err
			}
			crate = line == "[[package]]"
		}
		key, value, _ := strings.Cut(line, " = ")
		if value = strings.Trim(value, `"`); crate && key == "name" {
			p.Name = value
		} else if crate && key == "version" {
			p.Version = value
		}
	}
	if err := flush(); err != nil {
		return err
	}
	f.Packages = sorted(f.Packages)
	return lines.Err()
}

// condaMeta reads what Conda tells of an installed package.
func condaMeta(f *told, r io.Reader) error {
	f.Kind = Conda
	return named(f, r)
}

// rpmManifest reads the list of packages of Azure Linux without a package manager: ten
// columns, as rpm -qa --queryformat writes them.
func rpmManifest(f *told, r io.Reader) error {
	f.Kind = RPM
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		c := strings.Split(lines.Text(), "\t")
		if len(c) != 10 {
			return damaged("a list of RPM packages with %d columns", len(c))
		}
		version, release, ok := strings.Cut(c[1], "-")
		epoch, err := strconv.Atoi(c[8])
		if err != nil || !ok || c[0] == "" || version == "" {
			return damaged("a list of RPM packages with %q", lines.Text())
		}
		p := Package{Name: c[0], Version: version, Release: release, Epoch: epoch, Arch: c[7]}
		p.from(c[9])
		if err := f.add(p); err != nil {
			return err
		}
	}
	return lines.Err()
}
