// Package doctor looks at what a program will need and says what is wrong with it
// and what to do. It changes nothing; what it has to write to try it out is
// removed at once.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // works, but not for ever, or not as one would wish
	Fail Level = "fail" // does not work, or loses something
)

// Finding is one line of the report.
type Finding struct {
	Check  string `json:"check"` // what was looked at
	Level  Level  `json:"level"`
	Text   string `json:"text"`             // what was found
	Advice string `json:"advice,omitempty"` // what to do about it
}

// Report takes findings. Its methods are for one goroutine.
type Report struct {
	out     io.Writer
	asJSON  bool
	failed  int
	written error
}

// NewReport returns a report that is written to out: a line per finding, or with
// asJSON a JSON object per line.
func NewReport(out io.Writer, asJSON bool) *Report { return &Report{out: out, asJSON: asJSON} }

// Failed returns how many findings are failures, or the error of writing them.
func (r *Report) Failed() (int, error) { return r.failed, r.written }

// OK reports that all is well.
func (r *Report) OK(check, format string, args ...any) {
	r.Add(Finding{Check: check, Level: OK, Text: fmt.Sprintf(format, args...)})
}

// Warn reports what should be mended, and how.
func (r *Report) Warn(check, advice, format string, args ...any) {
	r.Add(Finding{Check: check, Level: Warn, Text: fmt.Sprintf(format, args...), Advice: advice})
}

// Fail reports what must be mended, and how.
func (r *Report) Fail(check, advice, format string, args ...any) {
	r.Add(Finding{Check: check, Level: Fail, Text: fmt.Sprintf(format, args...), Advice: advice})
}

// Add adds a finding.
func (r *Report) Add(f Finding) {
	if f.Level == Fail {
		r.failed++
	}
	var err error
	if r.asJSON {
		err = json.NewEncoder(r.out).Encode(f)
	} else {
		line := fmt.Sprintf("%-4s  %s: %s", f.Level, f.Check, f.Text)
		if f.Advice != "" {
			line += "; " + f.Advice
		}
		_, err = fmt.Fprintln(r.out, line)
	}
	if r.written == nil {
		r.written = err
	}
}

// Check looks at one thing. It ends when ctx does.
type Check func(ctx context.Context, r *Report)

// CheckTime is how long one check may take.
const CheckTime = 20 * time.Second

// Run makes all checks.
func Run(ctx context.Context, r *Report, checks ...Check) {
	for _, check := range checks {
		ctx, cancel := context.WithTimeout(ctx, CheckTime)
		check(ctx, r)
		cancel()
	}
}
