package allinone

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/daemon"
)

// subset says which blobs a check reads.
type subset struct {
	all  bool
	text string // "N/T" or "X%"

	part, parts uint64  // N-1 and T
	share       float64 // 0 to 1, from a place chosen at random
	from        float64
}

func (s *subset) define(flags *flag.FlagSet) {
	flags.BoolVar(&s.all, "read-data", false, "read every blob and compare it with its digest")
	flags.StringVar(&s.text, "read-data-subset", "", "read `N/T`, the Nth of T parts of the blobs, or X%, a part chosen at random")
}

var errSubset = daemon.Exit{Code: cli.ExitUsage, Err: errors.New("--read-data-subset: want N/T with 1 ≤ N ≤ T, or X% with 0 < X ≤ 100")}

func (s *subset) parse() error {
	if s.text == "" {
		return nil
	}
	if percent, ok := strings.CutSuffix(s.text, "%"); ok {
		x, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(x > 0 && x <= 100) {
			return errSubset
		}
		s.share, s.from = x/100, rand.Float64()
		return nil
	}
	n, t, ok := strings.Cut(s.text, "/")
	part, err := strconv.ParseUint(n, 10, 31)
	parts, err2 := strconv.ParseUint(t, 10, 31)
	if !ok || errors.Join(err, err2) != nil || part < 1 || part > parts {
		return errSubset
	}
	s.part, s.parts = part-1, parts
	return nil
}

// none reports whether nothing is to be read.
func (s subset) none() bool { return !s.all && s.text == "" }

// has reports whether a blob is to be read. Digests are as good as random.
func (s subset) has(d registry.Digest) bool {
	if s.all || s.none() {
		return s.all
	}
	var b [8]byte
	if _, err := hex.Decode(b[:], []byte(d.Encoded()[:16])); err != nil {
		return true
	}
	n := uint64(0)
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	if s.parts > 0 {
		return n%s.parts == s.part
	}
	at := float64(n) / (1 << 64)
	return at >= s.from && at < s.from+s.share || at < s.from+s.share-1
}

func (s subset) String() string {
	switch {
	case s.all:
		return "all bytes were read"
	case s.text != "":
		return fmt.Sprintf("the bytes of %s were read", s.text)
	}
	return "no bytes were read"
}
