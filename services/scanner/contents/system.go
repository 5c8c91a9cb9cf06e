package contents

import (
	"bufio"
	"io"
	"net/textproto"
	"strconv"
	"strings"
)

// families are the names that Trivy has for the ID of an os-release file.
var families = map[string]string{
	"alpine": "alpine", "debian": "debian", "ubuntu": "ubuntu", "rhel": "redhat", "centos": "centos", "rocky": "rocky",
	"almalinux": "alma", "ol": "oracle", "amzn": "amazon", "fedora": "fedora", "photon": "photon", "wolfi": "wolfi",
	"chainguard": "chainguard", "opensuse-leap": "opensuse-leap", "opensuse-tumbleweed": "opensuse-tumbleweed",
	"sles": "sles", "sle-micro": "slem", "mariner": "cbl-mariner", "azurelinux": "azurelinux", "bottlerocket": "bottlerocket",
	"minimos": "minimos", "echo": "echo", "coreos": "coreos",
}

func firstLine(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, 1<<10))
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line), err
}

// osRelease reads os-release(5).
func osRelease(f *Found, r io.Reader) error {
	var id, version string
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		switch strings.TrimSpace(key) {
		case "ID":
			id = value
		case "VERSION_ID":
			version = value
		}
	}
	if family := families[strings.ToLower(id)]; family != "" {
		f.OS = &OS{Family: family, Version: version}
	}
	return lines.Err()
}

// debianVersion reads the version with its minor number, which os-release lacks.
func debianVersion(f *Found, r io.Reader) error {
	line, err := firstLine(r)
	if err == nil && line != "" {
		f.OS = &OS{Family: "debian", Version: line}
	}
	return err
}

func alpineRelease(f *Found, r io.Reader) error {
	line, err := firstLine(r)
	if err == nil && line != "" {
		f.OS = &OS{Family: "alpine", Version: line}
	}
	return err
}

// apk reads the database of Alpine's package manager.
func apk(f *Found, r io.Reader) error {
	f.Kind = APK
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	var p Package
	flush := func() {
		if p.Name != "" && p.Version != "" {
			if p.SourceName == "" {
				p.SourceName = p.Name
			}
			p.SourceVersion = p.Version
			f.Packages = append(f.Packages, p)
		}
		p = Package{}
	}
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			flush()
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "P":
			p.Name = value
		case "V":
			p.Version = value
		case "A":
			p.Arch = value
		case "o":
			p.SourceName = value
		case "L":
			p.License = value
		}
	}
	flush()
	return lines.Err()
}

// dpkg reads the status of Debian's packages, or a part of it in status.d.
func dpkg(f *Found, r io.Reader) error {
	f.Kind = DPKG
	t := textproto.NewReader(bufio.NewReaderSize(r, 64<<10))
	for {
		h, err := t.ReadMIMEHeader()
		if p, ok := debianPackage(h); ok {
			f.Packages = append(f.Packages, p)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func debianPackage(h textproto.MIMEHeader) (Package, bool) {
	status := strings.Fields(h.Get("Status"))
	if len(status) > 0 && status[len(status)-1] != "installed" {
		return Package{}, false
	}
	p := Package{Name: h.Get("Package"), Arch: h.Get("Architecture")}
	version := h.Get("Version")
	if p.Name == "" || version == "" {
		return Package{}, false
	}
	p.Epoch, p.Version, p.Release = debianVersionParts(version)
	p.SourceName, p.SourceEpoch, p.SourceVersion, p.SourceRelease = p.Name, p.Epoch, p.Version, p.Release
	if source := h.Get("Source"); source != "" {
		name, rest, _ := strings.Cut(source, " ")
		p.SourceName = name
		if v := strings.Trim(strings.TrimSpace(rest), "()"); v != "" {
			p.SourceEpoch, p.SourceVersion, p.SourceRelease = debianVersionParts(v)
		}
	}
	return p, true
}

// debianVersionParts splits epoch:version-release (deb-version(7)).
func debianVersionParts(v string) (epoch int, version, release string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		if n, err := strconv.Atoi(e); err == nil && n >= 0 {
			epoch, v = n, rest
		}
	}
	version = v
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		version, release = v[:i], v[i+1:]
	}
	return epoch, version, release
}
