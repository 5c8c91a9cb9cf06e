package metadata_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// Callers that give up in the middle of a query never make another one get their
// rows (CVE-2025-47907 is of this kind): each reads its own tags, and every other
// time its own manifest, again and again, and is often gone before the answer.
// CANCELLED_QUERIES is how many are made (1,000).
func TestS143CancelledQueries(t *testing.T) { onEach(t, testS143CancelledQueries) }

func testS143CancelledQueries(t *testing.T, at newPlace) {
	queries := 1000
	if s := os.Getenv("CANCELLED_QUERIES"); s != "" {
		var err error
		if queries, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	c := openStore(t, at(t), metadata.Options{}, nil)
	const readers = 8
	want := make([]registry.ManifestPut, readers)
	for i := range want {
		want[i] = pushImage(t, c, repoOf(i), fmt.Sprint("image ", i), tagOf(i))
	}
	var answered, gaveUp atomic.Int64
	var reading sync.WaitGroup
	for i := range readers {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		reading.Go(func() {
			usual := time.Millisecond // of a query here
			for n := range queries / readers {
				ctx, cancel := context.WithCancel(context.Background())
				gone := time.AfterFunc(time.Duration(r.Int64N(int64(2*usual))), cancel)
				began := time.Now()
				var m registry.Manifest
				list, err := c.Tags(ctx, registry.Actor{}, repoOf(i), registry.Page[registry.Tag]{Limit: 10})
				if err == nil && n%2 == 1 {
					m, err = c.Manifest(ctx, registry.Actor{}, repoOf(i), registry.ManifestQuery{Ref: registry.Reference{Tag: tagOf(i)}})
				}
				late := ctx.Err() != nil
				gone.Stop()
				cancel()
				switch {
				case err == nil:
					answered.Add(1)
					usual = (7*usual + time.Since(began) + time.Microsecond) / 8
					if len(list.Items) != 1 || list.Items[0] != tagOf(i) || n%2 == 1 && (m.Digest != want[i].Digest || string(m.Bytes) != string(want[i].Bytes) || m.MediaType != want[i].MediaType) {
						t.Errorf("reader %d was given the rows of another: %v, %s %q", i, list, m.Digest, m.Bytes)
						return
					}
				case late:
					gaveUp.Add(1)
					usual += usual / 8 // so that some come through
				default:
					t.Errorf("reader %d: %v", i, err)
					return
				}
			}
		})
	}
	reading.Wait()
	t.Logf("%d queries were answered, %d cancelled", answered.Load(), gaveUp.Load())
	if answered.Load() < int64(queries)/20 || gaveUp.Load() < int64(queries)/20 {
		t.Errorf("void: %d queries were answered, %d cancelled", answered.Load(), gaveUp.Load())
	}
}

func repoOf(reader int) registry.Name { return registry.Name(fmt.Sprint("of-", reader)) }

func tagOf(reader int) registry.Tag { return registry.Tag(fmt.Sprint("tag-of-", reader)) }
