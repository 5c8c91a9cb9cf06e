package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func TestRunStopsInReverse(t *testing.T) {
	var events []string
	ctx, cancel := context.WithCancel(t.Context())
	ready := new(Readiness)
	unit := func(name string) Unit {
		return Unit{
			Name:  name,
			Start: func(context.Context) error { events = append(events, "start "+name); return nil },
			Stop: func(context.Context) error {
				if ready.Ready() {
					t.Error("ready while stopping")
				}
				events = append(events, "stop "+name)
				return nil
			},
		}
	}
	last := unit("c")
	last.Run = func() error {
		cancel()
		<-t.Context().Done()
		return nil
	}
	if err := Run(ctx, slog.New(slog.DiscardHandler), Options{Ready: ready}, unit("a"), unit("b"), last); err != nil {
		t.Fatal(err)
	}
	want := []string{"start a", "start b", "start c", "stop c", "stop b", "stop a"}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Error(diff)
	}
}

func TestRunFailures(t *testing.T) {
	boom := errors.New("boom")
	for name, bad := range map[string]Unit{
		"start":     {Name: "bad", Start: func(context.Context) error { return boom }},
		"run":       {Name: "bad", Run: func() error { return boom }},
		"ends":      {Name: "bad", Run: func() error { return nil }},
		"bad close": Closer("bad", func() error { return boom }),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stopped := false
			good := Closer("good", func() error { stopped = true; return nil })
			if name == "bad close" {
				cancel()
			}
			if err := Run(ctx, slog.New(slog.DiscardHandler), Options{}, good, bad); err == nil {
				t.Error("no error")
			}
			if !stopped {
				t.Error("the unit that had started was not stopped")
			}
		})
	}
}

// TestRunDelays looks at the time between the end of readiness and the first
// stop, which a failure cuts short.
func TestRunDelays(t *testing.T) {
	const delay = 10 * time.Second
	for name, test := range map[string]struct {
		fails time.Duration // after the signal; 0: never
		want  time.Duration
	}{
		"quiet":         {0, delay},
		"fails then":    {3 * time.Second, 3 * time.Second},
		"fails at once": {time.Nanosecond, time.Nanosecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				ready := new(Readiness)
				bad, doom := Fatal("bad")
				stops := make(chan time.Time, 1)
				good := Closer("good", func() error { stops <- time.Now(); return nil })
				ended := make(chan error, 1)
				go func() {
					ended <- run(ctx, func() {}, slog.New(slog.DiscardHandler), Options{Ready: ready, Delay: delay}, []Unit{good, bad})
				}()
				synctest.Wait()
				if !ready.Ready() {
					t.Error("not ready")
				}
				told := time.Now()
				cancel()
				synctest.Wait()
				if ready.Ready() || len(stops) > 0 {
					t.Errorf("told to stop: ready: %t, stopped: %t", ready.Ready(), len(stops) > 0)
				}
				if test.fails > 0 {
					time.Sleep(test.fails)
					doom(errors.New("boom"))
				}
				if err := <-ended; (err != nil) != (test.fails > 0) {
					t.Errorf("got %v", err)
				}
				if got := (<-stops).Sub(told); got != test.want {
					t.Errorf("stopped after %v, want %v", got, test.want)
				}
			})
		})
	}
}

// TestHTTPCutsOff stops a server while a request is in progress.
func TestHTTPCutsOff(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	unit := HTTP("test", l, &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})})
	ended := make(chan error, 2)
	go func() { ended <- unit.Run() }()
	go func() {
		resp, err := http.Get("http://" + l.Addr().String())
		if err == nil {
			resp.Body.Close()
			t.Error("the request got an answer")
		}
		ended <- nil
	}()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := unit.Stop(ctx); err == nil || !strings.Contains(err.Error(), "cutting off requests") {
		t.Errorf("got %v", err)
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestLogLines(t *testing.T) {
	var buf bytes.Buffer
	slog.New(newHandler(&buf, slog.LevelInfo)).Warn("hello", "repo", "a/b")
	var got map[string]any
	if err := json.Unmarshal(buf.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "time")
	want := map[string]any{"level": "warn", "message": "hello", "repo": "a/b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestS146LogInjection: whatever is logged is one line of JSON, with nothing in it
// that a terminal obeys.
func TestS146LogInjection(t *testing.T) {
	const evil = "x\n{\"level\":\"info\"}\r\x1b[31m\"\\\x00\u2028\xff"
	var out bytes.Buffer
	log := slog.New(newHandler(&out, slog.LevelInfo)).With("with", evil).WithGroup(evil)
	log.Info(evil, evil, evil, "error", errors.New(evil), "any", []string{evil}, "struct", struct{ A string }{evil})
	text := out.String()
	line, rest, _ := strings.Cut(text, "\n")
	var record map[string]any
	if err := json.Unmarshal([]byte(line), &record); err != nil || rest != "" {
		t.Fatalf("not one line: %q, %v", text, err)
	}
	if strings.ContainsFunc(line, unicode.IsControl) {
		t.Errorf("a control character in %q", line)
	}
	if want := strings.ToValidUTF8(evil, "\ufffd"); record["message"] != want || record["with"] != want {
		t.Errorf("got %q", record)
	}
}

func TestLogLevelUnknown(t *testing.T) {
	if _, err := NewLogger(LogOptions{Level: "loud"}); err == nil {
		t.Error("level accepted")
	}
}

func TestCgroupLimit(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	cgroups := fstest.MapFS{
		"memory.max":          file("max\n"),
		"pods/memory.max":     file("67108864\n"),
		"pods/one/other":      file("1"),
		"pods/two/memory.max": file("1073741824\n"),

		"memory/memory.limit_in_bytes":       file("9223372036854771712\n"),
		"memory/box/memory.limit_in_bytes":   file("33554432\n"),
		"memory/box/a/memory.limit_in_bytes": file("9223372036854771712\n"),
	}
	for self, want := range map[string]int64{
		"0::/\n":          0,
		"0::/pods/one\n":  64 << 20,
		"0::/pods/two\n":  64 << 20,
		"1:memory:/old\n": 0,
		"":                0,
		"nonsense":        0,

		"9:name=systemd:/box\n4:memory:/box/a\n0::/\n": 32 << 20,
		"4:cpu,memory:/box\n":                          32 << 20,
		"4:cpu:/box\n":                                 0,
		"4:memory:/not/seen/here\n0::/\n":              0,
		"4:memory:/box/a\n0::/pods/one\n":              32 << 20,
		"4:memory:/../../box\n0::/../pods/one\n":       32 << 20,
	} {
		if got := cgroupLimit(cgroups, self); got != want {
			t.Errorf("%q: got %d, want %d", self, got, want)
		}
	}
}
