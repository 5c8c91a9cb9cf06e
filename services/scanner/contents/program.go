package contents

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"io"
	"math"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// smallestProgram is the size of a program that may have modules in it. Go's are
// larger, and so are those of Rust with its list of crates.
const smallestProgram = 192 << 10

// program looks whether an executable file was built by Go, or by Rust with a list of
// what is in it.
func (w *walk) program(f *told, size int64, content io.Reader) error {
	head := make([]byte, 4)
	if _, err := io.ReadFull(content, head); err != nil {
		return err
	}
	if !isProgram(head) {
		return nil
	}
	return w.inAnyOrder(io.MultiReader(bytes.NewReader(head), content), size, func(r io.ReaderAt) error {
		if string(head) == "\x7fELF" {
			// Its tables are in memory as a whole, and names of sections once more for each.
			if _, err := elf.NewFile(&sparing{r: r, left: 128 << 10}); err != nil {
				return err
			}
		}
		r, err := withoutTables(&sparing{r: r, left: math.MaxInt64, atOnce: 8 << 20}, string(head))
		if err != nil {
			return err
		}
		if info, err := buildinfo.Read(r); err == nil {
			return goModules(f, info)
		}
		return rustCrates(f, r)
	})
}

func isProgram(head []byte) bool {
	switch string(head) {
	case "\x7fELF", "\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xcf\xfa\xed\xfe", "\xce\xfa\xed\xfe":
		return true
	}
	return string(head[:2]) == "MZ"
}

func goModules(f *told, info *buildinfo.BuildInfo) error {
	f.Kind = GoBinary
	// Go's experiments stand behind its version: " X:boringcrypto", since Go 1.26 "-X:…".
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " X:")
	version, _, _ = strings.Cut(version, "-X:")
	if version != "" {
		if err := f.add(Package{Name: "stdlib", Version: "v" + version}); err != nil {
			return err
		}
	}
	for _, d := range append([]*debug.Module{&info.Main}, info.Deps...) {
		m := d
		if m.Replace != nil {
			m = m.Replace
		}
		version := m.Version
		if version == "(devel)" {
			version = ""
		}
		if d == &info.Main && (version == "" || module.IsPseudoVersion(version)) {
			version = cmp.Or(toldLinker(info), version)
		}
		if err := f.add(Package{Name: m.Path, Version: version}); err != nil {
			return err
		}
	}
	return nil
}

// linkerSays finds what a linker was told to put into variables, with quotes or without.
var linkerSays = regexp.MustCompile(`-X[= ]*['"]?([^\s'"=]+)=['"]?([^\s'"]*)`)

// toldLinker returns the version of a program that the linker was told, "" if it was
// told none, or several. A variable of the module's commands counts most, then one
// of a package that is called as such packages usually are, as Trivy has it.
func toldLinker(info *buildinfo.BuildInfo) string {
	i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-ldflags" })
	if i < 0 {
		return ""
	}
	values := map[string]string{} // the last of a variable's counts
	for _, m := range linkerSays.FindAllStringSubmatch(info.Settings[i].Value, 1000) {
		values[m[1]] = m[2]
	}
	var versions [3][]string
	for variable, value := range values {
		dot := strings.LastIndexByte(variable, '.') + 1
		if last := strings.ToLower(variable[dot:]); dot == 0 || last != "version" && last != "ver" {
			continue
		}
		if !semver.IsValid(value) && !semver.IsValid("v"+value) {
			continue
		}
		rank := 2
		of, _, _ := strings.Cut(strings.ToLower(path.Base(variable)), ".")
		switch {
		case strings.HasPrefix(variable, info.Main.Path+"/cmd/"):
			rank = 0
		case of == "main" || of == "common" || of == "version" || of == "cmd":
			rank = 1
		}
		versions[rank] = append(versions[rank], value)
	}
	for _, v := range versions {
		if len(v) > 0 {
			if len(v) > 1 {
				return ""
			}
			return v[0]
		}
	}
	return ""
}

// rustCrates reads what cargo-auditable has put into a program.
func rustCrates(f *told, r io.ReaderAt) error {
	section, err := rustSection(r)
	if err != nil || section == nil {
		return err
	}
	z, err := zlib.NewReader(section)
	if err != nil {
		return err
	}
	f.Kind = Rust
	d := newDocument(io.LimitReader(z, 16<<20))
	return d.object(func(key string) error {
		if key != "packages" {
			return d.skip()
		}
		return d.array(func() error {
			var p Package
			var kind string
			err := d.texts(map[string]*string{"name": &p.Name, "version": &p.Version, "kind": &kind})
			if err != nil || kind != "" && kind != "runtime" {
				return err
			}
			return f.add(p)
		})
	})
}

// rustSection returns the part of a program that has the list, nil if it has none.
func rustSection(r io.ReaderAt) (io.Reader, error) {
	const most = 16 << 20
	if e, err := elf.NewFile(r); err == nil {
		if s := e.Section(".dep-v0"); s != nil && s.Size <= most {
			return s.Open(), nil
		}
		return nil, nil
	}
	if m, err := macho.NewFile(r); err == nil {
		if s := m.Section(".dep-v0"); s != nil && s.Size <= most {
			return s.Open(), nil
		}
		return nil, nil
	}
	p, err := pe.NewFile(r)
	if err != nil {
		return nil, err
	}
	if s := p.Section(".dep-v0"); s != nil && s.Size <= most {
		return s.Open(), nil
	}
	return nil, nil
}
