package contents

import (
	"errors"
	"fmt"
)

// Limits bound what the scan of an image may cost. The zero value of a field is the
// default.
type Limits struct {
	Expanded int64 // bytes of a layer when it is decompressed: 8 GiB
	Ratio    int64 // times a layer may grow: 200
	Modest   int64 // bytes up to which it may grow any number of times: 1 GiB
	Entries  int   // names of a layer: 500,000
	File     int64 // bytes of a file to look at; others are skipped: 512 MiB
	Document int64 // bytes of a text to look at: 32 MiB
	Packages int   // of a layer: 100,000
	Depth    int   // archives in archives: 3
	Archive  int64 // bytes that archives in a layer may expand to: 1 GiB
	Notes    int   // files that replace others or are skipped: 200,000
	Kept     int64 // bytes of names of files and of packages: 48 MiB
	// Directory is how many bytes the directories of archives that lie in each other may
	// have: they are in memory until the last is read. 32 MiB.
	Directory int64
}

func (l Limits) withDefaults() Limits {
	set := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	set(&l.Expanded, 8<<30)
	set(&l.Ratio, 200)
	set(&l.Modest, 1<<30)
	set(&l.File, 512<<20)
	set(&l.Document, 32<<20)
	set(&l.Archive, 1<<30)
	set(&l.Kept, 48<<20)
	set(&l.Directory, 32<<20)
	for p, v := range map[*int]int{&l.Entries: 500_000, &l.Packages: 100_000, &l.Depth: 3, &l.Notes: 200_000} {
		if *p == 0 {
			*p = v
		}
	}
	return l
}

// ErrLimit is the error of a scan that would cost more than [Limits] allow.
var ErrLimit = errors.New("limit")

func limit(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrLimit, fmt.Sprintf(format, args...))
}

// ErrUnsupported is the error of content that can't be looked into.
var ErrUnsupported = errors.New("unsupported")

// ErrDamaged is the error of content that is not what it says it is.
var ErrDamaged = errors.New("damaged")
