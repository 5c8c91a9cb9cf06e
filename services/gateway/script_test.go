package gateway

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// TestScripts runs testdata/script/*.txt, each against a gateway of its own.
// The lines of a script:
//
//	# a comment
//	option NAME=VALUE          docker2s2=off, sparse=on
//	let NAME = TEXT            a variable
//	> METHOD /target           a request; the lines up to the next "<" belong to it
//	> Key: value               a header
//	> @TEXT                    the body ("@@N" N bytes of "x"; "chunked" as the
//	                           first word after @ hides the length)
//	< STATUS                   sends it and checks the status
//	< Key: PATTERN             a header; "-" if there must be none
//	< @PATTERN                 the body
//	save NAME Key              a header of the answer as a variable
//
// ${NAME} is a variable, ${NAME|sha256}, ${NAME|sha512}, ${NAME|hex} (of sha256)
// and ${NAME|len} what is made of it. In a pattern "*" stands for anything.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(path.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, world: newWorld(), vars: map[string]string{}}
			for i, line := range strings.Split(string(text), "\n") {
				s.where = fmt.Sprintf("%s:%d: %s", f, i+1, line)
				s.line(line)
			}
			if s.req != nil {
				t.Fatalf("%s: request without expectation", f)
			}
		})
	}
}

type script struct {
	t     *testing.T
	where string
	world *world
	base  string
	vars  map[string]string

	req  *http.Request // being written
	body string
	hide bool // send the body without its length
	got  answer
}

func (s *script) failf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s\n\t%s\n\tanswer: %d %v %.300q", s.where, fmt.Sprintf(format, args...), s.got.status, s.got.header, s.got.body)
}

func (s *script) line(line string) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "", "#":
	case "option":
		s.option(rest)
	case "let":
		name, value, _ := strings.Cut(rest, " = ")
		s.vars[name] = s.expand(value)
	case "save":
		name, key, _ := strings.Cut(rest, " ")
		if s.vars[name] = s.got.header.Get(key); s.vars[name] == "" {
			s.failf("no header %s", key)
		}
	case ">":
		s.request(s.expand(rest))
	case "<":
		s.expect(s.expand(rest))
	default:
		s.failf("not a line of a script")
	}
}

func (s *script) option(o string) {
	switch o {
	case "docker2s2=off":
		s.world.cfg.DockerSchema2 = false
	case "sparse=on":
		s.world.deps.Catalog = memory.NewCatalog(memory.CatalogOptions{AllowSparse: true})
	default:
		s.failf("unknown option")
	}
}

func (s *script) expand(text string) string {
	for {
		before, rest, ok := strings.Cut(text, "${")
		if !ok {
			return text
		}
		expr, after, _ := strings.Cut(rest, "}")
		name, fn, _ := strings.Cut(expr, "|")
		v, ok := s.vars[name]
		if !ok {
			s.failf("no variable %s", name)
		}
		switch fn {
		case "":
		case "sha256":
			v = registry.SHA256.FromString(v).String()
		case "sha512":
			v = registry.SHA512.FromString(v).String()
		case "hex":
			v = registry.SHA256.FromString(v).Encoded()
		case "len":
			v = strconv.Itoa(len(v))
		default:
			s.failf("no function %s", fn)
		}
		text = before + v + after
	}
}

func (s *script) request(line string) {
	if s.req == nil {
		if s.base == "" {
			s.base = s.world.serve(s.t)
		}
		method, target, _ := strings.Cut(line, " ")
		host := strings.TrimPrefix(s.base, "http://")
		// Opaque goes out as it is, which http.NewRequest would not let us do.
		s.req = &http.Request{Method: method, Header: http.Header{}, Host: host, URL: &url.URL{Scheme: "http", Host: host, Opaque: target}}
		s.body, s.hide = "", false
		return
	}
	if b, ok := strings.CutPrefix(line, "@"); ok {
		if c, ok := strings.CutPrefix(b, "chunked "); ok {
			b, s.hide = c, true
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(b, "@")); err == nil && strings.HasPrefix(b, "@") {
			b = strings.Repeat("x", n)
		}
		s.body += b
		return
	}
	key, value, _ := strings.Cut(line, ": ")
	if key == "Host" {
		s.req.Host = value
		return
	}
	s.req.Header.Add(key, value)
}

func (s *script) expect(line string) {
	if s.req != nil {
		s.send()
		if want, err := strconv.Atoi(line); err != nil || s.got.status != want {
			s.failf("got status %d, want %s", s.got.status, line)
		}
		return
	}
	if b, ok := strings.CutPrefix(line, "@"); ok {
		if !matches(b, s.got.body) {
			s.failf("got body %q", s.got.body)
		}
		return
	}
	key, want, _ := strings.Cut(line, ": ")
	got := strings.Join(s.got.header.Values(key), ", ")
	if want == "-" && got == "" {
		return
	}
	if !matches(want, got) || got == "" {
		s.failf("got %s: %q", key, got)
	}
}

func (s *script) send() {
	if s.body != "" {
		s.req.Body = io.NopCloser(strings.NewReader(s.body))
		s.req.ContentLength = int64(len(s.body))
		if s.hide {
			s.req.ContentLength = -1
		}
	}
	res, err := transport.RoundTrip(s.req)
	s.req = nil
	if err != nil {
		s.failf("sending: %v", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.failf("reading the answer: %v", err)
	}
	s.got = answer{res.StatusCode, res.Header, string(b)}
}

// matches reports whether s has the form of pattern, in which "*" is anything.
func matches(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	first, last := parts[0], parts[len(parts)-1]
	s, ok1 := strings.CutPrefix(s, first)
	s, ok2 := strings.CutSuffix(s, last)
	if !ok1 || !ok2 {
		return false
	}
	for _, p := range parts[1 : len(parts)-1] {
		_, after, ok := strings.Cut(s, p)
		if !ok {
			return false
		}
		s = after
	}
	return true
}
