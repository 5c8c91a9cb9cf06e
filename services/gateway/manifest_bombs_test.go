package gateway

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// bomb is a manifest of up to 4 MiB that is a burden to read.
type bomb struct{ mediaType, body string }

// bombs are those of rows S-102 and S-104, by what they are made of.
func bombs() map[string]bomb {
	layer := func(i int) string {
		return fmt.Sprintf(`{"mediaType":"a/b","digest":"sha256:%064x","size":1}`, i)
	}
	var layers, same, notes []string
	for i := range 30_000 {
		layers = append(layers, layer(i))
		same = append(same, layer(0))
		notes = append(notes, fmt.Sprintf(`"k%d":""`, i))
	}
	image := func(members string) string {
		return `{"schemaVersion":2,"config":` + emptyConfig + `,` + members + `}`
	}
	return map[string]bomb{
		"30,000 layers":        {registry.TypeManifest, image(`"layers":[` + strings.Join(layers, ",") + `]`)},
		"30,000 times one":     {registry.TypeManifest, image(`"layers":[` + strings.Join(same, ",") + `]`)},
		"30,000 children":      {registry.TypeIndex, `{"schemaVersion":2,"manifests":[` + strings.Join(layers, ",") + `]}`},
		"60,000 empty layers":  {registry.TypeManifest, image(`"layers":[` + strings.Repeat("{},", 60_000) + `{}]`)},
		"60,000 children":      {registry.TypeIndex, `{"schemaVersion":2,"manifests":[` + strings.Repeat("{},", 60_000) + `{}]}`},
		"60,000 annotations":   {registry.TypeManifest, image(`"layers":[],"annotations":{` + strings.Join(append(notes, notes...), ",") + `}`)},
		"60,000 members":       {registry.TypeManifest, image(strings.Repeat(`"x":1,`, 60_000) + `"layers":[]`)},
		"S-104 arrays":         {registry.TypeManifest, image(`"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000))},
		"S-104 objects":        {registry.TypeManifest, image(`"x":` + strings.Repeat(`{"x":`, 100_000) + "1" + strings.Repeat("}", 100_000))},
		"S-104 in a layer":     {registry.TypeManifest, image(`"layers":[{"annotations":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}]`)},
		"S-104 open for ever":  {registry.TypeManifest, strings.Repeat("[", registry.MaxManifest)},
		"S-104 at the top":     {registry.TypeIndex, strings.Repeat(`{"manifests":`, 100_000)},
		"S-104 escaped quotes": {registry.TypeManifest, image(`"x":"` + strings.Repeat(`\"`, 1<<20) + `"`)},
	}
}

// push pushes it.
func (b bomb) push(h http.Handler) *recorder {
	r := newRequest("PUT", "/v2/a/manifests/t", b.body)
	r.Header.Set("Content-Type", b.mediaType)
	rec := &recorder{discard: discard{h: http.Header{}}}
	h.ServeHTTP(rec, r)
	return rec
}

// TestS102S104ManifestBombs: all are refused, with memory in proportion to their bytes:
// 24 times what a body may have, and one allocation for four of its bytes. How long that
// takes [BenchmarkManifestBombs] tells.
func TestS102S104ManifestBombs(t *testing.T) {
	g := newWorld().gateway(t)
	for name, b := range bombs() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		rec := b.push(g)
		runtime.ReadMemStats(&after)
		// "{}" is not there, so even a good one is refused.
		if rec.status != 400 || !strings.Contains(rec.body.String(), `"MANIFEST_`) || rec.body.Len() > 1<<10 {
			t.Errorf("%s: got %d %.200s", name, rec.status, rec.body.String())
		}
		bytes, allocations := after.TotalAlloc-before.TotalAlloc, after.Mallocs-before.Mallocs
		if bytes > 24*registry.MaxManifest || allocations > registry.MaxManifest/4 {
			t.Errorf("%s: %d MiB in %d allocations", name, bytes>>20, allocations)
		}
	}
}

// BenchmarkManifestBombs refuses each of them (S-102: 200 ms at most).
func BenchmarkManifestBombs(b *testing.B) {
	g := newWorld().gateway(b)
	for name, m := range bombs() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				m.push(g)
			}
		})
	}
}
