package contents

import (
	"bufio"
	"io"
	"strings"
)

// families are the names that Trivy has for the ID of an os-release file.
var families = map[string]string{
	"activestate": "activestate", "alpine": "alpine", "debian": "debian", "ubuntu": "ubuntu", "rhel": "redhat", "centos": "centos", "rocky": "rocky",
	"almalinux": "alma", "ol": "oracle", "amzn": "amazon", "fedora": "fedora", "photon": "photon", "wolfi": "wolfi",
	"chainguard": "chainguard", "opensuse": "opensuse-leap", "opensuse-leap": "opensuse-leap", "opensuse-tumbleweed": "opensuse-tumbleweed",
	"sles": "sles", "sle-micro": "slem", "sl-micro": "slem", "sle-micro-rancher": "slem", "mariner": "cbl-mariner", "azurelinux": "azurelinux", "bottlerocket": "bottlerocket",
	"minimos": "minimos", "echo": "echo", "coreos": "coreos",
}

func firstLine(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, 1<<10))
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line), err
}

// osRelease reads os-release(5).
func osRelease(f *told, r io.Reader) error {
	var id, name, version string
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		switch strings.TrimSpace(key) {
		case "ID":
			id = value
		case "NAME":
			name = value
		case "VERSION_ID":
			version = value
		}
	}
	family := families[strings.ToLower(id)]
	if family == "centos" && name == "CentOS Stream" {
		family = "centos-stream"
	}
	if family != "" {
		f.OS = &OS{Family: family, Version: version}
	}
	return lines.Err()
}

// debianVersion reads the version with its minor number, which os-release lacks.
func debianVersion(f *told, r io.Reader) error {
	line, err := firstLine(r)
	if err == nil && line != "" {
		f.OS = &OS{Family: "debian", Version: line}
	}
	return err
}

func alpineRelease(f *told, r io.Reader) error {
	line, err := firstLine(r)
	if err == nil && line != "" {
		f.OS = &OS{Family: "alpine", Version: line}
	}
	return err
}

// redhatRelease reads the release file of distributions of Red Hat's kind, which are older
// than os-release: NAME release VERSION.
func redhatRelease(f *told, r io.Reader) error {
	line, err := firstLine(r)
	name, rest, ok := strings.Cut(line, " release ")
	version, _, _ := strings.Cut(rest, " ")
	if err != nil || !ok || version == "" || version[0] < '0' || version[0] > '9' {
		return err
	}
	family := "redhat"
	for word, is := range map[string]string{"centos": "centos", "rocky": "rocky", "alma": "alma", "oracle": "oracle", "fedora": "fedora"} {
		if strings.HasPrefix(strings.ToLower(name), word) {
			family = is
		}
	}
	if strings.HasPrefix(name, "CentOS Stream") {
		family = "centos-stream"
	}
	f.OS = &OS{Family: family, Version: version}
	return nil
}

// amazonRelease reads the release file of Amazon Linux, which says "release" or does
// not, and is the one of Red Hat's kind elsewhere.
func amazonRelease(f *told, r io.Reader) error {
	line, err := firstLine(r)
	rest, ok := strings.CutPrefix(line, "Amazon Linux ")
	words := strings.Fields(strings.TrimPrefix(rest, "AMI "))
	if len(words) > 1 && words[0] == "release" {
		words = words[1:]
	}
	if err == nil && ok && len(words) > 0 {
		f.OS = &OS{Family: "amazon", Version: words[0]}
	}
	return err
}
