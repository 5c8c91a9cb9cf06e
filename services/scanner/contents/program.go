package contents

import (
	"bytes"
	"compress/zlib"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"io"
	"strings"
)

// smallestProgram is the size of a program that may have modules in it. Go's are
// larger, and so are those of Rust with its list of crates.
const smallestProgram = 192 << 10

// program looks whether an executable file was built by Go, or by Rust with a list of
// what is in it.
func (w *walk) program(f *Found, size int64, content io.Reader) error {
	head := make([]byte, 4)
	if _, err := io.ReadFull(content, head); err != nil {
		return err
	}
	if !isProgram(head) {
		return nil
	}
	return w.inAnyOrder(io.MultiReader(bytes.NewReader(head), content), size, func(r io.ReaderAt) error {
		if info, err := buildinfo.Read(r); err == nil {
			goModules(f, info)
			return nil
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

func goModules(f *Found, info *buildinfo.BuildInfo) {
	f.Kind = GoBinary
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ")
	if v, _, experiment := strings.Cut(version, "-X:"); experiment {
		version = v
	}
	if version != "" {
		f.Packages = append(f.Packages, Package{Name: "stdlib", Version: "v" + version})
	}
	if v := info.Main.Version; info.Main.Path != "" && v != "" && v != "(devel)" {
		f.Packages = append(f.Packages, Package{Name: info.Main.Path, Version: v})
	}
	for _, d := range info.Deps {
		m := d
		if m.Replace != nil {
			m = m.Replace
		}
		if m.Path == "" || m.Version == "" || m.Version == "(devel)" {
			continue
		}
		f.Packages = append(f.Packages, Package{Name: m.Path, Version: m.Version})
	}
}

// rustCrates reads what cargo-auditable has put into a program.
func rustCrates(f *Found, r io.ReaderAt) error {
	e, err := elf.NewFile(r)
	if err != nil {
		return err
	}
	section := e.Section(".dep-v0")
	if section == nil || section.Size > 16<<20 {
		return nil
	}
	z, err := zlib.NewReader(section.Open())
	if err != nil {
		return err
	}
	var list struct {
		Packages []struct {
			Name, Version, Kind string
		}
	}
	if err := json.NewDecoder(io.LimitReader(z, 16<<20)).Decode(&list); err != nil {
		return err
	}
	f.Kind = Rust
	for _, p := range list.Packages {
		if p.Kind != "build" && p.Name != "" && p.Version != "" {
			f.Packages = append(f.Packages, Package{Name: p.Name, Version: p.Version})
		}
	}
	return nil
}
