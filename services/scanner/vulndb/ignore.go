package vulndb

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"
)

// Ignore reads an ignore file of Trivy's text form: a vulnerability's ID in each line,
// maybe with exp:YYYY-MM-DD, the day from which it counts again. What follows # is a
// comment.
func Ignore(name string, now func() time.Time) (func(id string) bool, error) {
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
	return func(id string) bool {
		end, ok := until[id]
		return ok && (end.IsZero() || now().Before(end))
	}, lines.Err()
}
