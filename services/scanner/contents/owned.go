package contents

import (
	"hash/maphash"
	"slices"
	"strings"
)

// owned are the files of a layer that came with packages of its operating system. What
// they tell of packages of languages is left out, as by Trivy: the distribution mends such
// a package without changing its version, and tells of its vulnerabilities itself. Names
// are kept as hashes.
type owned struct {
	seed  maphash.Seed
	files []uint64
	// lists are the files of Debian's packages, by the name of the list. Whether they count
	// is known when the packages are.
	lists map[string][]uint64
	n     int
}

// Limits of the files of packages: how many a layer may have, and the bytes of a name, as
// Linux has it.
const (
	maxOwned = 2_000_000
	maxPath  = 4096
)

func (o *owned) count() error {
	if o.n++; o.n > maxOwned {
		return limit("packages of a layer have more than %d files", maxOwned)
	}
	return nil
}

func (o *owned) hash(name string) uint64 {
	return maphash.String(o.seed, strings.TrimPrefix(name, "/"))
}

// add notes that a file came with a package.
func (o *owned) add(name string) error {
	o.files = append(o.files, o.hash(name))
	return o.count()
}

// addTo notes that a file is in a list of Debian's.
func (o *owned) addTo(list, name string) error {
	if o.lists == nil {
		o.lists = make(map[string][]uint64)
	}
	o.lists[list] = append(o.lists[list], o.hash(name))
	return o.count()
}

// alwaysOwned came with the system in images that have no lists of files.
var alwaysOwned = []string{
	"usr/lib/python2.7/argparse.egg-info", "usr/lib/python2.7/lib-dynload/Python-2.7.egg-info", "usr/lib/python2.7/wsgiref.egg-info",
}

// leaveOut has files that came with packages of the system tell of no others.
func (o *owned) leaveOut(l *Layer) {
	for i := range l.Found {
		if l.Found[i].Kind != DPKG {
			continue
		}
		for _, p := range l.Found[i].Packages {
			name := p.Name
			if _, ok := o.lists[name]; !ok {
				name += ":" + p.Arch
			}
			if !p.Foreign {
				o.files = append(o.files, o.lists[name]...)
				delete(o.lists, name) // a package may be there many times
			}
		}
	}
	for _, name := range alwaysOwned {
		o.files = append(o.files, o.hash(name))
	}
	slices.Sort(o.files)
	for i := range l.Found {
		f := &l.Found[i]
		if f.Kind == "" || f.Kind.OfOS() {
			continue
		}
		if _, has := slices.BinarySearch(o.files, o.hash(f.Path)); has {
			*f = Found{Path: f.Path}
		}
	}
}
