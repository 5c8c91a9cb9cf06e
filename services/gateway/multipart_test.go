package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	stdmultipart "mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// part is a part of an answer as a client reads it.
type part struct{ contentRange, bytes string }

// partsOf reads a multipart answer to its end.
func partsOf(t *testing.T, a answer) []part {
	t.Helper()
	mediaType, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/byteranges" {
		t.Fatalf("Content-Type %q: %v", a.header.Get("Content-Type"), err)
	}
	if a.header.Get("Content-Range") != "" {
		t.Errorf("a multipart answer with Content-Range %s", a.header.Get("Content-Range"))
	}
	var parts []part
	r := stdmultipart.NewReader(strings.NewReader(a.body), params["boundary"])
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil || p.Header.Get("Content-Type") != octets {
			t.Fatal(p.Header, err)
		}
		parts = append(parts, part{p.Header.Get("Content-Range"), string(b)})
	}
}

// TestP70MultiRange asks for random parts that touch but don't overlap, as
// containers/image does, and gets as many, in the same order.
func TestP70MultiRange(t *testing.T) {
	w := newWorld()
	url := w.serve(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	content := make([]byte, 300_000)
	for i := range content {
		content[i] = byte(rnd.Uint32())
	}
	d := pushBlob(t, url, "a", string(content))
	for range 60 {
		var header []string
		var want []part
		at := 0
		for at < len(content) && len(header) < 900 {
			at += rnd.IntN(3) * rnd.IntN(2000)
			n := 1 + rnd.IntN(3000)
			if at+n > len(content) {
				break
			}
			header = append(header, fmt.Sprintf("%d-%d", at, at+n-1))
			want = append(want, part{fmt.Sprintf("bytes %d-%d/%d", at, at+n-1, len(content)), string(content[at : at+n])})
			at += n
		}
		if len(want) < 2 {
			continue
		}
		rnd.Shuffle(len(want), func(i, j int) {
			want[i], want[j] = want[j], want[i]
			header[i], header[j] = header[j], header[i]
		})
		got := do(t, "GET", url+"/v2/a/blobs/"+d.String(), nil, "Range: bytes="+strings.Join(header, ","))
		if got.status == 200 && got.body == string(content) {
			continue // it would have been longer
		}
		got.want(t, 206)
		parts := partsOf(t, got)
		if len(parts) != len(want) {
			t.Fatalf("got %d parts, want %d", len(parts), len(want))
		}
		for i := range want {
			if parts[i] != want[i] {
				t.Fatalf("part %d is %s and %d bytes, want %s", i, parts[i].contentRange, len(parts[i].bytes), want[i].contentRange)
			}
		}
		if len(got.body) > len(content) {
			t.Errorf("%d bytes of a blob of %d", len(got.body), len(content))
		}
	}
}

// TestP72MultiRangeConditions: If-Range, HEAD, and content that is inline.
func TestP72MultiRangeConditions(t *testing.T) {
	url := newWorld().serve(t)
	content := strings.Repeat("0123456789", 200)
	d := pushBlob(t, url, "a", content)
	pushBlob(t, url, "a", "{}")
	m := strings.Replace(emptyImage, `"layers"`, `"annotations":{"x":"`+content+`"},"layers"`, 1)
	do(t, "PUT", url+"/v2/a/manifests/t", strings.NewReader(m), "Content-Type: "+registry.TypeManifest).want(t, 201)
	blob := url + "/v2/a/blobs/"

	const two = "Range: bytes=5-6,20-22"
	got := do(t, "GET", blob+d.String(), nil, two, "If-Range: "+etag(d)).want(t, 206)
	if parts := partsOf(t, got); len(parts) != 2 || parts[0].bytes != "56" || parts[1].bytes != "012" {
		t.Errorf("got %v", parts)
	}
	for _, header := range []string{"ETag", "Docker-Content-Digest", "Accept-Ranges", "Content-Disposition", "Content-Security-Policy"} {
		if got.header.Get(header) == "" {
			t.Errorf("no %s", header)
		}
	}
	for _, other := range []string{`"sha256:other"`, "W/" + etag(d), "Wed, 21 Oct 2015 07:28:00 GMT"} {
		if got := do(t, "GET", blob+d.String(), nil, two, "If-Range: "+other).want(t, 200); got.body != content {
			t.Errorf("If-Range %s: %d bytes", other, len(got.body))
		}
	}
	if got := do(t, "HEAD", blob+d.String(), nil, two).want(t, 200); got.header.Get("Content-Length") != "2000" {
		t.Errorf("HEAD: %v", got.header)
	}
	inline := do(t, "GET", blob+registry.SHA256.FromString(m).String(), nil, "Range: bytes=0-1,-2").want(t, 206)
	if parts := partsOf(t, inline); len(parts) != 2 || parts[0].bytes != m[:2] || parts[1].bytes != m[len(m)-2:] {
		t.Errorf("inline: %v", parts)
	}
	got = do(t, "GET", blob+d.String(), nil, "Range: bytes=0-4,3-6").want(t, 206)
	if got.body != "0123456" || got.header.Get("Content-Range") != "bytes 0-6/2000" {
		t.Errorf("overlapping: %q %v", got.body, got.header)
	}
	got = do(t, "GET", blob+d.String(), nil, "Range: bytes=2000-,3000-").want(t, 416)
	if got.header.Get("Content-Range") != "bytes */2000" {
		t.Errorf("outside: %v", got.header)
	}
}

// countingBlobs counts what is open.
type countingBlobs struct {
	registry.Blobs
	now, most, opened int
	breakAt           int // the Open that fails, 0: none
}

func (b *countingBlobs) Open(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
	b.opened++
	if b.opened == b.breakAt {
		return nil, registry.ErrUnavailable
	}
	c, err := b.Blobs.Open(ctx, s, r)
	b.now++
	b.most = max(b.most, b.now)
	return countedContent{c, b}, err
}

type countedContent struct {
	registry.Content
	b *countingBlobs
}

func (c countedContent) Close() error { c.b.now--; return c.Content.Close() }

// TestS113RangeBombs: what a request with many ranges costs is bounded by the
// blob's size, and one part is open at a time.
func TestS113RangeBombs(t *testing.T) {
	w := newWorld()
	blobs := &countingBlobs{Blobs: w.deps.Blobs}
	w.deps.Blobs = blobs
	g := w.gateway(t)
	content := strings.Repeat("x", 1<<20)
	d := pushBlob(t, w.serve(t), "a", content)
	get := func(ranges string) answer {
		r := newRequest("GET", "/v2/a/blobs/"+d.String(), "")
		r.Header.Set("Range", "bytes="+ranges)
		rec := &recorder{discard: discard{h: http.Header{}}}
		rec.cut = !served(g, rec, r)
		return answer{rec.status, rec.h, rec.body.String()}
	}
	var single, far strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&single, "%d-%d,", 2*i, 2*i)
	}
	for i := range maxRanges {
		fmt.Fprintf(&far, "%d-%d,", 2*i, 2*i)
	}
	for _, bomb := range []string{strings.Repeat("0-,", 2000), single.String()} {
		got := get(bomb).want(t, 400)
		if !strings.Contains(got.body, `"RANGE_INVALID"`) || len(got.body) > 200 || blobs.opened > 0 {
			t.Errorf("got %s; %d opened", got.body, blobs.opened)
		}
	}
	if got := get(strings.Repeat("0-,", 1000)).want(t, 206); len(got.body) != len(content) {
		t.Errorf("the whole many times: %d bytes", len(got.body))
	}
	blobs.opened = 0
	if got := get(far.String()).want(t, 206); len(partsOf(t, got)) != maxRanges {
		t.Errorf("%d parts", len(partsOf(t, got)))
	}
	if blobs.opened != maxRanges || blobs.most != 1 || blobs.now != 0 {
		t.Errorf("%d opened, %d at a time, %d left open", blobs.opened, blobs.most, blobs.now)
	}
}

// recorder keeps the body, too.
type recorder struct {
	discard
	body bytes.Buffer
	cut  bool // the handler broke the connection
}

func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

// served serves a request and reports whether it came to a clean end.
func served(g *Gateway, w http.ResponseWriter, r *http.Request) (clean bool) {
	defer func() {
		if v := recover(); v != nil {
			if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			clean = false
		}
	}()
	g.ServeHTTP(w, r)
	return true
}

// TestP75LostPartBreaksTheConnection: the first part can still be refused in
// words, a later one can't.
func TestP75LostPartBreaksTheConnection(t *testing.T) {
	for at, status := range map[int]int{1: 503, 2: 206} {
		w := newWorld()
		blobs := &countingBlobs{Blobs: w.deps.Blobs, breakAt: at}
		w.deps.Blobs = blobs
		g := w.gateway(t)
		d := pushBlob(t, w.serve(t), "a", strings.Repeat("x", 10_000))
		r := newRequest("GET", "/v2/a/blobs/"+d.String(), "")
		r.Header.Set("Range", "bytes=0-1,5-6")
		rec := &recorder{discard: discard{h: http.Header{}}}
		if clean := served(g, rec, r); clean != (at == 1) || rec.status != status || blobs.now != 0 {
			t.Errorf("part %d is lost: status %d, clean end %v, %d left open", at, rec.status, clean, blobs.now)
		}
	}
}
