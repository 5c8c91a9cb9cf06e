package allinone

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
	"github.com/berth-registry/berth/services/blobstore/s3"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

// TestG9Damage damages DAMAGES (60) stored blobs behind the store's back, in six
// ways, half of them in blobs that were verified within the interval, and reads
// them, whole and in parts. Scrub must find all; what is unverified, and all with
// verifyReads "always", must never be served wrong with a clean end; how many of
// the others are is printed. A push must heal each. DAMAGE_SEED repeats a run.
func TestG9Damage(t *testing.T) {
	n, seed := 60, uint64(time.Now().UnixNano())
	for name, set := range map[string]func(string) error{
		"DAMAGES":     func(s string) (err error) { n, err = strconv.Atoi(s); return err },
		"DAMAGE_SEED": func(s string) (err error) { seed, err = strconv.ParseUint(s, 10, 64); return err },
	} {
		if s := os.Getenv(name); s != "" {
			if err := set(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d damages, DAMAGE_SEED=%d", n, seed)
	for _, always := range []bool{false, true} {
		mode := map[bool]string{false: "interval", true: "always"}[always]
		t.Run("disk "+mode, func(t *testing.T) {
			root := t.TempDir()
			d, err := disk.Open(root, disk.Options{})
			if err != nil {
				t.Fatal(err)
			}
			proveDamage(t, d, root, n, seed, always)
		})
		t.Run("S3 "+mode, func(t *testing.T) {
			srv := s3test.Start(t)
			cfg, err := config.Pool{StorageDriver: srv.Driver("/x")}.S3()
			if err != nil {
				t.Fatal(err)
			}
			d, err := s3.Open(t.Context(), cfg, s3.Options{})
			if err != nil {
				t.Fatal(err)
			}
			proveDamage(t, d, filepath.Join(srv.Dir, "x"), n, seed, always)
		})
	}
}

// victim is a blob that will be damaged.
type victim struct {
	seed    uint64
	size    int
	digest  string
	file    string
	fresh   bool // verified within the interval
	damaged string
}

func (v *victim) content() []byte {
	b := make([]byte, v.size)
	_, _ = rand.NewChaCha8([32]byte{byte(v.seed), byte(v.seed >> 8), byte(v.seed >> 16), 1}).Read(b)
	return b
}

// damageRun is one run of [TestG9Damage].
type damageRun struct {
	t       *testing.T
	random  *rand.Rand
	url     string
	catalog *metadata.Catalog
	all     []*victim

	requests, wrongFresh, wrongOld, refused int
}

func proveDamage(t *testing.T, driver blobstore.Driver, root string, n int, seed uint64, always bool) {
	log := slog.New(slog.DiscardHandler)
	blobs, err := blobstore.Open(t.Context(), map[registry.Pool]blobstore.Driver{"": driver}, blobstore.Options{}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { blobs.Close() })
	db, err := sqlite.Open(t.Context(), t.TempDir(), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	var ahead atomic.Int64
	catalog, err := metadata.Open(t.Context(), db, blobs, metadata.Options{
		Scrub: metadata.Scrub{AlwaysVerify: always},
		GC:    metadata.GC{Off: true}, // a day goes by, and no manifest needs the blobs
		Now:   func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { catalog.Close() })
	r := &damageRun{
		t: t, random: rand.New(rand.NewPCG(seed, 9)), catalog: catalog,
		url: serve(t, blobs, catalog, func(l net.Listener) net.Listener { return l }) + "/v2/a",
	}

	// A quarter more than are damaged, in pairs of one size: files can be swapped.
	// Of a size comes one that is looked at too long ago and one that is not.
	sizes := []int{100, 40_000, 1 << 20, 1<<20 + 1, 3<<20 + 17, 9<<20 + 5}
	for i := range n + n/4 {
		r.all = append(r.all, &victim{seed: seed + uint64(i), size: sizes[i/4%len(sizes)], fresh: i%2 == 1})
	}
	for _, fresh := range []bool{false, true} {
		for _, v := range r.all {
			if v.fresh == fresh {
				v.digest = push(t, r.url, v.content())
			}
		}
		if !fresh {
			ahead.Add(int64(25 * time.Hour))
		}
	}
	files := filesOfBlobs(t, root)
	for _, v := range r.all {
		if v.file = files[strings.TrimPrefix(v.digest, "sha256:")]; v.file == "" {
			t.Fatalf("no file of %s", v.digest)
		}
	}
	r.damage(n)
	r.read(always)
	r.scrub()
	r.heal(blobs)
	t.Logf("%d requests of damaged blobs, %d refused or broken off; served wrong with a clean end: %d of blobs verified within the interval, %d of others",
		r.requests, r.refused, r.wrongFresh, r.wrongOld)
}

// filesOfBlobs returns the files that hold blobs, by the hash of the digest.
func filesOfBlobs(t *testing.T, root string) map[string]string {
	files := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, ".berth", "blobs"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasSuffix(path, ".sums") {
			return err
		}
		for part := range strings.FieldsFuncSeq(path, func(c rune) bool { return c == '/' || c == '.' }) {
			if len(part) == 64 {
				files[part] = path
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// damage damages n blobs. In each four of one size there are one pair of each age.
func (r *damageRun) damage(n int) {
	order := r.random.Perm(len(r.all))
	left := n
	for _, i := range order {
		v := r.all[i]
		if left == 0 {
			break
		}
		if v.damaged != "" {
			continue
		}
		left--
		switch how := r.random.IntN(6); how {
		case 0:
			v.damaged = "bit"
			r.edit(v, func(b []byte) []byte { b[r.random.IntN(len(b))] ^= 1 << r.random.IntN(8); return b })
		case 1:
			v.damaged = "sector"
			r.edit(v, func(b []byte) []byte {
				at := r.random.IntN(len(b)) / 512 * 512
				clear(b[at:min(at+512, len(b))])
				return b
			})
		case 2:
			v.damaged = "truncation"
			r.edit(v, func(b []byte) []byte { return b[:r.random.IntN(len(b))] })
		case 3:
			v.damaged = "extension"
			r.edit(v, func(b []byte) []byte { return append(b, make([]byte, 1+r.random.IntN(5000))...) })
		case 4:
			v.damaged = "stale" // a write behind some block never came
			r.edit(v, func(b []byte) []byte {
				at := r.random.IntN(len(b)) / 4096 * 4096
				old := (&victim{seed: v.seed + 77_777, size: len(b)}).content()
				copy(b[at:min(at+4096, len(b))], old[at:])
				return b
			})
		default:
			v.damaged = "swap"
			r.swap(v, &left)
		}
	}
}

func (r *damageRun) edit(v *victim, f func([]byte) []byte) {
	r.t.Helper()
	b, err := os.ReadFile(v.file)
	if err == nil {
		b = f(b)
		err = overwrite(v.file, b)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// overwrite changes a file in place: what it is besides its bytes stays.
func overwrite(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// swap exchanges the contents of v and of another blob of its size, if there is
// one that is whole and may be damaged; or else it gives v's file other bytes.
func (r *damageRun) swap(v *victim, left *int) {
	for _, w := range r.all {
		if w == v || w.size != v.size || w.damaged != "" || *left == 0 {
			continue
		}
		w.damaged = "swap"
		*left--
		r.edit(w, func([]byte) []byte { return v.content() })
		r.edit(v, func([]byte) []byte { return w.content() })
		return
	}
	r.edit(v, func([]byte) []byte { return (&victim{seed: v.seed + 99_999, size: v.size}).content() })
}

// read reads all blobs, whole and twice in parts.
func (r *damageRun) read(always bool) {
	for _, v := range r.all {
		content := v.content()
		for i := range 3 {
			from, to := 0, len(content)
			if i > 0 {
				from = r.random.IntN(len(content))
				to = from + 1 + r.random.IntN(len(content)-from)
			}
			status, got, err := r.get(v.digest, from, to, i > 0)
			clean := err == nil && (status == 200 || status == 206)
			right := clean && bytes.Equal(got, content[from:to])
			switch {
			case v.damaged == "" && !right:
				r.t.Errorf("a blob that is whole: %d bytes from %d of %d: status %d, %d bytes, %v", to-from, from, v.size, status, len(got), err)
			case v.damaged == "":
				continue
			case !clean:
				r.refused++
			case !right && v.fresh:
				r.wrongFresh++
				if always {
					r.t.Errorf("always: %s of a blob of %d bytes was served wrong with a clean end", v.damaged, v.size)
				}
			case !right:
				r.wrongOld++
				r.t.Errorf("unverified: %s of a blob of %d bytes was served wrong with a clean end", v.damaged, v.size)
			}
			r.requests++
		}
	}
}

// get requests a blob, or bytes from..to of it.
func (r *damageRun) get(digest string, from, to int, part bool) (status int, got []byte, err error) {
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.url+"/blobs/"+digest, nil)
	if err != nil {
		return 0, nil, err
	}
	if part {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	got, err = io.ReadAll(resp.Body)
	return resp.StatusCode, got, err
}

// scrub looks at everything and compares what it says with what was done.
func (r *damageRun) scrub() {
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Minute)
	defer cancel()
	if err := r.catalog.StartScrub(ctx, operator); err != nil {
		r.t.Fatal(err)
	}
	if err := awaitScrub(ctx, r.catalog, io.Discard); err != nil {
		r.t.Fatal(err)
	}
	found := map[string]bool{}
	for after := (*registry.Damage)(nil); ; {
		page, err := r.catalog.Damages(ctx, operator, after, 100)
		if err != nil {
			r.t.Fatal(err)
		}
		for i := range page {
			found[page[i].Digest.String()] = true
			after = &page[i]
		}
		if len(page) < 100 {
			break
		}
	}
	kinds := map[string]int{}
	for _, v := range r.all {
		if found[v.digest] != (v.damaged != "") {
			r.t.Errorf("%q of a blob of %d bytes: found by scrub is %t", v.damaged, v.size, found[v.digest])
		}
		kinds[v.damaged]++
		if v.damaged == "" {
			continue
		}
		if resp := send(r.t, http.MethodHead, r.url+"/blobs/"+v.digest, nil, ""); resp.StatusCode != http.StatusNotFound {
			r.t.Errorf("HEAD of a damaged blob: %s", resp.Status)
		}
	}
	r.t.Logf("scrub found %d: %v", len(found), kinds)
}

// heal pushes everything again, and checks all of the store.
func (r *damageRun) heal(blobs *blobstore.Store) {
	for _, v := range r.all {
		push(r.t, r.url, v.content())
		if got := body(r.t, r.url+"/blobs/"+v.digest); !bytes.Equal(got, v.content()) {
			r.t.Errorf("%s of a blob of %d bytes was not healed", v.damaged, v.size)
		}
	}
	if list, err := r.catalog.Damages(r.t.Context(), operator, nil, 10); err != nil || len(list) > 0 {
		r.t.Errorf("damaged after all was pushed again: %v, %v", list, err)
	}
	for f, err := range r.catalog.Fsck(r.t.Context(), blobs, true) {
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Errorf("fsck: %s", f)
	}
}
