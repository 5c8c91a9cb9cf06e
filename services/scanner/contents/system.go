package contents

import (
	"bufio"
	"errors"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
)

// apk reads the database of Alpine's package manager.
func (w *walk) apk(f *told, r io.Reader) error {
	f.Kind = APK
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	var p Package
	var dir string
	flush := func() error {
		if p.SourceName == "" {
			p.SourceName = p.Name
		}
		p.SourceVersion = p.Version
		err := f.add(p)
		p = Package{}
		return err
	}
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if err := flush(); err != nil {
				return err
			}
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
		case "F":
			dir = value
		case "R":
			if len(dir)+len(value) > maxPath {
				continue
			}
			if err := w.owned.add(path.Join(dir, value)); err != nil {
				return err
			}
		}
	}
	return errors.Join(flush(), lines.Err())
}

// dpkg reads the status of Debian's packages, or a part of it in status.d: paragraphs of
// fields, of which all but a few are passed over (deb822(5)).
func dpkg(f *told, r io.Reader) error {
	f.Kind = DPKG
	lines := bufio.NewReaderSize(r, 64<<10)
	h := make(map[string]string)
	for {
		line, err := lines.ReadSlice('\n')
		text := strings.TrimRight(string(line[:min(len(line), 4<<10)]), "\r\n")
		for err == bufio.ErrBufferFull { // no field of ours
			_, err = lines.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return err
		}
		if key, value, ok := strings.Cut(text, ":"); ok && text[0] != ' ' && text[0] != '\t' {
			switch key = strings.ToLower(key); key {
			case "package", "status", "version", "architecture", "maintainer", "source":
				if _, twice := h[key]; !twice {
					h[key] = strings.TrimSpace(value)
				}
			}
		}
		if text == "" || err == io.EOF {
			if p, ok := debianPackage(h); ok {
				if err := f.add(p); err != nil {
					return err
				}
			}
			clear(h)
		}
		if err == io.EOF {
			return nil
		}
	}
}

// md5sums reads the list of files of a package of Debian's.
func (w *walk) md5sums(f *told, r io.Reader) error {
	list := strings.TrimSuffix(path.Base(f.Path), ".md5sums")
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if _, name, ok := strings.Cut(lines.Text(), "  "); ok {
			if err := w.owned.addTo(list, name); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// foreigners are in the maintainer's address of packages that are for Debian and not of
// it, as Trivy has them.
var foreigners = []string{
	"@cloudflare.com", "@datadoghq.com", "@hashicorp.com", "@konghq.com", "@microsoft.com", "@mongodb.com", "@nodesource.com", "@nvidia.com",
	"@openrobotics.org", "@osrfoundation.org", "Google Cloud CLI Authors", "contact@grafana.com", "dev@couchdb.apache.org",
	"developers@lists.mariadb.org", "info@elastic.co", "info@tailscale.com", "nginx-packaging@f5.com", "sapmachine@sap.com",
	"support@docker.com", "support@gitlab.com", "support@influxdb.com",
}

func isForeign(maintainer string) bool {
	return maintainer == "GitHub" || maintainer == "HashiCorp" ||
		slices.ContainsFunc(foreigners, func(s string) bool { return strings.Contains(maintainer, s) })
}

func debianPackage(h map[string]string) (Package, bool) {
	for _, word := range strings.Fields(h["status"]) {
		switch word {
		case "deinstall", "purge", "not-installed", "config-files": // others have files here
			return Package{}, false
		}
	}
	p := Package{Name: h["package"], Arch: h["architecture"], Foreign: isForeign(h["maintainer"])}
	version := h["version"]
	if p.Name == "" || version == "" {
		return Package{}, false
	}
	p.Epoch, p.Version, p.Release = debianVersionParts(version)
	if p.Version == "" {
		return Package{}, false
	}
	p.SourceName, p.SourceEpoch, p.SourceVersion, p.SourceRelease = p.Name, p.Epoch, p.Version, p.Release
	if source := h["source"]; source != "" {
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
