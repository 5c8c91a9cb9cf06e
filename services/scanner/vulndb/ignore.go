package vulndb

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Ignored are vulnerabilities that are not told of, by an ignore file of Trivy's text
// form: a vulnerability's ID in each line, maybe with exp:YYYY-MM-DD, the day from which it
// counts again. What follows # is a comment. The file is read again when it has changed.
// Its methods may be called by many goroutines.
type Ignored struct {
	name string
	now  func() time.Time
	log  *slog.Logger

	mu     sync.Mutex
	looked time.Time   // when the file was looked at
	file   fs.FileInfo // as it was read, or found to be wrong
	until  map[string]time.Time
	ids    map[string]bool // that are left out now, until next
	next   time.Time       // zero: for ever
	sum    string
}

// lookEvery is how often the file is looked at, at most.
const lookEvery = 5 * time.Second

// OpenIgnored reads an ignore file.
func OpenIgnored(name string, now func() time.Time, log *slog.Logger) (*Ignored, error) {
	g := &Ignored{name: name, now: now, log: log, looked: now()}
	var err error
	if g.file, err = os.Stat(name); err != nil {
		return nil, err
	}
	if g.until, err = readIgnored(name); err != nil {
		return nil, err
	}
	g.decide(now())
	return g, nil
}

// current returns what is left out now, and a short text that is another when that is:
// "" if nothing is left out. It may be called on nil.
func (g *Ignored) current() (ids map[string]bool, sum string) {
	if g == nil {
		return nil, ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	changed := false
	if now.Sub(g.looked) >= lookEvery || now.Before(g.looked) {
		g.looked = now
		changed = g.read()
	}
	if changed || !g.next.IsZero() && !now.Before(g.next) {
		g.decide(now)
	}
	return g.ids, g.sum
}

// read reads the file if it has changed. One that can't be read changes nothing.
func (g *Ignored) read() (changed bool) {
	info, err := os.Stat(g.name)
	if err == nil && g.file != nil && os.SameFile(info, g.file) && info.ModTime().Equal(g.file.ModTime()) && info.Size() == g.file.Size() {
		return false
	}
	told := err != nil && g.file == nil
	g.file = nil
	if err == nil {
		g.file = info
		var until map[string]time.Time
		if until, err = readIgnored(g.name); err == nil {
			g.until = until
			g.log.Info("the list of ignored vulnerabilities has changed", "file", g.name, "vulnerabilities", len(until))
			return true
		}
	}
	if !told {
		g.log.Error("the list of ignored vulnerabilities can't be read: what it said before counts", "file", g.name, "error", err)
	}
	return false
}

// decide finds out what is left out now.
func (g *Ignored) decide(now time.Time) {
	g.ids, g.next = make(map[string]bool), time.Time{}
	for id, end := range g.until {
		if !end.IsZero() && !now.Before(end) {
			continue
		}
		g.ids[id] = true
		if !end.IsZero() && (g.next.IsZero() || end.Before(g.next)) {
			g.next = end
		}
	}
	if g.sum = ""; len(g.ids) > 0 {
		h := sha256.Sum256([]byte(strings.Join(slices.Sorted(maps.Keys(g.ids)), "\n")))
		g.sum = hex.EncodeToString(h[:6])
	}
}

func readIgnored(name string) (map[string]time.Time, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	until := make(map[string]time.Time)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var end time.Time
		for _, w := range words[1:] {
			day, ok := strings.CutPrefix(w, "exp:")
			if !ok {
				return nil, fmt.Errorf("%s: line %d: %q is neither exp:YYYY-MM-DD nor a comment", name, n, w)
			}
			if end, err = time.Parse(time.DateOnly, day); err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", name, n, err)
			}
		}
		until[words[0]] = end
	}
	return until, lines.Err()
}
