package metadata

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
)

// Objects of the journal are named
//
//	LINE.e.TO             a segment: the events up to the position TO
//	LINE.s.AT.TRY.NUMBER  a part of a snapshot that has the events up to AT
//	LINE.s.AT.TRY.end     says that the snapshot is complete
//
// so that in the order of their names they are in that of what they are about. A
// line is a journal without gaps; a later one has a larger number.

// objectName is the name of an object of the journal, taken apart.
type objectName struct {
	line     string
	snapshot bool
	at       Position
	try      string // of a snapshot
	number   int    // of a part
	end      bool   // the snapshot is complete
}

func (n objectName) String() string {
	if !n.snapshot {
		return n.line + ".e." + hexPosition(n.at)
	}
	last := fmt.Sprintf("%06d", n.number)
	if n.end {
		last = "end"
	}
	return n.line + ".s." + hexPosition(n.at) + "." + n.try + "." + last
}

// parseObjectName returns false for objects that are not of a journal.
func parseObjectName(name string) (n objectName, ok bool) {
	words := strings.Split(name, ".")
	if len(words) < 3 || !isLine(words[0]) {
		return objectName{}, false
	}
	n.line = words[0]
	if n.at, ok = parsePosition(words[2]); !ok {
		return objectName{}, false
	}
	switch {
	case words[1] == "e" && len(words) == 3:
		return n, true
	case words[1] != "s" || len(words) != 5:
		return objectName{}, false
	}
	n.snapshot, n.try = true, words[3]
	if words[4] == "end" {
		n.end = true
		return n, true
	}
	number, err := strconv.Atoi(words[4])
	n.number = number
	return n, err == nil && number >= 0
}

func hexPosition(p Position) string { return fmt.Sprintf("%016x%016x", uint64(p.Tx), uint64(p.Seq)) }

func parsePosition(s string) (p Position, ok bool) {
	if len(s) != 32 {
		return Position{}, false
	}
	tx, err := strconv.ParseUint(s[:16], 16, 63)
	if err != nil {
		return Position{}, false
	}
	seq, err := strconv.ParseUint(s[16:], 16, 63)
	return Position{int64(tx), int64(seq)}, err == nil
}

// A line is eight digits of a number and eight random letters or digits.
func isLine(s string) bool {
	number, _, ok := strings.Cut(s, "-")
	return ok && len(number) == 8 && len(s) == 17 && strings.Trim(number, "0123456789") == ""
}

func lineNumber(line string) int {
	n, _ := strconv.Atoi(line[:8])
	return n
}

func randomWord() string { return strings.ToLower(rand.Text()[:8]) }

// newLine returns a line with a larger number than all that are stored.
func (j *journal) newLine(ctx context.Context) (string, error) {
	number := 0
	err := listJournal(ctx, j.objects, "", func(n objectName) error {
		number = max(number, lineNumber(n.line))
		return nil
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%08d-%s", number+1, randomWord()), nil
}

// endOfLine returns the end of the last segment of the journal's line.
func (j *journal) endOfLine(ctx context.Context) (end Position, err error) {
	err = listJournal(ctx, j.objects, j.state.Line, func(n objectName) error {
		if n.line == j.state.Line && !n.snapshot && end.Before(n.at) {
			end = n.at
		}
		return nil
	})
	return end, err
}

// listJournal calls each with the name of each object of a journal behind after, in
// their order.
func listJournal(ctx context.Context, objects interface {
	ListJournal(ctx context.Context, after string, limit int) ([]string, error)
}, after string, each func(objectName) error,
) error {
	const page = 1000
	for {
		names, err := objects.ListJournal(ctx, after, page)
		if err != nil {
			return fmt.Errorf("listing the journal: %w", err)
		}
		for _, name := range names {
			after = name
			n, ok := parseObjectName(name)
			if !ok {
				continue
			}
			if err := each(n); err != nil {
				return err
			}
		}
		if len(names) < page {
			return nil
		}
	}
}
