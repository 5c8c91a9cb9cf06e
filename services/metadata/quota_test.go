package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata"
)

// quota returns limits with one quota.
func quota(t testing.TB, bytes int64, patterns ...string) metadata.Limits {
	t.Helper()
	return metadata.Limits{Quotas: []metadata.Quota{{Repositories: globs(t, patterns...), Bytes: bytes}}}
}

// sized is made-up content of a size.
func sized(name string, size int64) registry.Stored {
	return registry.Stored{Digest: registry.SHA256.FromString(name), Size: size, Locator: registry.Locator("copy of " + name)}
}

// wantOver checks that an error says what is used of what.
func wantOver(t *testing.T, what string, err error, used, limit int64) {
	t.Helper()
	wantErr(t, what, err, registry.ErrDenied)
	if diff := cmp.Diff(map[string]int64{"used": used, "limit": limit}, registry.AsError(err).Detail); diff != "" {
		t.Errorf("%s: detail (-want +got):\n%s", what, diff)
	}
}

// counted checks that the counters are what counting again finds. On a shared
// database the looks at both are not at one moment, and counting in the background
// goes on: what is wrong is wrong each time.
func counted(t *testing.T, s *store) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		var wrong []registry.Finding
		for f, err := range s.Fsck(t.Context(), memory.NewBlobs(), false) {
			if err != nil {
				t.Fatal(err)
			}
			if f.Invariant == "I10" {
				wrong = append(wrong, f)
			}
		}
		if len(wrong) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("I10: %v", wrong)
			return
		}
	}
}

func TestQuota(t *testing.T) { onEach(t, testQuota) }

func testQuota(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{Limits: quota(t, 1000, "team/**")}, nil)
	ctx := t.Context()
	link(t, s, "team/a", sized("x", 600))
	link(t, s, "team/a", sized("x", 600)) // again
	link(t, s, "team/b", sized("x", 600)) // the same content is counted once
	link(t, s, "other", sized("big", 5000))
	_, err := s.Link(ctx, alice, "team/b", sized("y", 500))
	wantOver(t, "Link", err, 600, 1000)
	_, err = s.Blob(ctx, alice, "team/b", sized("y", 500).Digest)
	wantErr(t, "what was refused", err, registry.ErrBlobUnknown)
	_, err = s.Mount(ctx, alice, "team/b", sized("big", 5000).Digest, "other")
	wantOver(t, "Mount", err, 600, 1000)
	link(t, s, "team/b", sized("y2", 400)) // the limit itself is not too much
	_, err = s.Admit(ctx, alice, "team/new")
	wantOver(t, "Admit", err, 1000, 1000)
	if _, err := s.Admit(ctx, alice, "other"); err != nil {
		t.Errorf("Admit elsewhere: %v", err)
	}
	m := image(sized("y2", 400), nil, "v1")
	_, err = s.PutManifest(ctx, alice, "team/b", m)
	wantOver(t, "PutManifest", err, 1000, 1000)
	counted(t, s)

	if err := s.Unlink(ctx, alice, "team/a", sized("x", 600).Digest); err != nil {
		t.Fatal(err)
	}
	_, err = s.PutManifest(ctx, alice, "team/b", m)
	wantOver(t, "while another repository has it", err, 1000, 1000)
	if err := s.Unlink(ctx, alice, "team/b", sized("x", 600).Digest); err != nil {
		t.Fatal(err)
	}
	put(t, s, "team/b", m)
	put(t, s, "team/b", m)
	counted(t, s)
	if err := s.DeleteManifest(ctx, alice, "team/b", m.Digest); err != nil {
		t.Fatal(err)
	}
	link(t, s, "team/b", sized("z", 600))
	_, err = s.Admit(ctx, alice, "team/b")
	wantOver(t, "all is used", err, 1000, 1000)
	// To undo is always allowed, and counted.
	if err := s.Undelete(ctx, alice, "team/b", registry.Reference{Digest: m.Digest}); err != nil {
		t.Fatal(err)
	}
	_, err = s.Admit(ctx, alice, "team/b")
	wantOver(t, "more than all", err, 1000+int64(len(m.Bytes)), 1000)
	counted(t, s)
}

// What was there before the quota is counted, and so is what a push finds first.
func TestQuotaIsSetLater(t *testing.T) { onEach(t, testQuotaIsSetLater) }

func testQuotaIsSetLater(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{}, nil)
	link(t, s, "a", sized("x", 600))
	link(t, s, "b", sized("x", 600))
	link(t, s, "b", sized("y", 300))
	s.options.Limits = quota(t, 1000, "**")
	s = s.crash(t)
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := s.Link(t.Context(), alice, "new", sized("z", 200))
		if errors.Is(err, registry.ErrDenied) {
			wantOver(t, "Link", err, 900, 1000)
			break
		}
		if err := s.Unlink(t.Context(), alice, "new", sized("z", 200).Digest); err != nil || time.Now().After(deadline) {
			t.Fatalf("what was there is not counted (%v)", err)
		}
	}
	counted(t, s)
	// Another limit keeps the counters, other patterns do not.
	s.options.Limits = quota(t, 2000, "**")
	s = s.crash(t)
	link(t, s, "new", sized("z", 200))
	counted(t, s)

	// Without the quota nobody counts, so what was counted is not believed later.
	limits := s.options.Limits
	s.options.Limits = metadata.Limits{}
	s = s.crash(t)
	link(t, s, "new", sized("more", 5000))
	s.options.Limits = limits
	s = s.crash(t)
	_, err := s.Link(t.Context(), alice, "new", sized("even more", 1))
	wantErr(t, "Link", err, registry.ErrDenied) // of what is counted so far, this repository's at least
	counted(t, s)
}

// S-152: however many push at once, over each way in, a quota is never exceeded,
// and the counters are what counting again finds.
func TestS152QuotaInParallel(t *testing.T) { onEach(t, testS152QuotaInParallel) }

func testS152QuotaInParallel(t *testing.T, at newPlace) {
	const limit, pushes, size = 35_000, 100, 300
	s := openStore(t, at(t), metadata.Options{Limits: quota(t, limit, "team/**")}, nil)
	link(t, s, "source", sized("mounted", size))
	var wg sync.WaitGroup
	var mu sync.Mutex
	denied := 0
	push := func(i int) error {
		ctx := context.Background()
		repo := registry.Name(fmt.Sprintf("team/r%d", i%7))
		config := sized(fmt.Sprint("config", i/2), size) // each shared by two
		config.Locator = registry.Locator(fmt.Sprint("upload ", i))
		if _, err := s.Link(ctx, alice, repo, config); err != nil {
			return err
		}
		if _, err := s.Mount(ctx, alice, repo, sized("mounted", size).Digest, "source"); err != nil {
			return err
		}
		m := image(config, []registry.Stored{sized("mounted", size)}, registry.Tag(fmt.Sprint("t", i)), "latest", "also")
		_, err := s.PutManifest(ctx, alice, repo, m)
		return err
	}
	for i := range pushes {
		wg.Go(func() {
			if err := push(i); errors.Is(err, registry.ErrDenied) {
				mu.Lock()
				denied++
				mu.Unlock()
			} else if err != nil {
				t.Errorf("push %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if denied == 0 || denied == pushes {
		t.Errorf("%d of %d pushes were refused: this tests nothing", denied, pushes)
	}
	_, err := s.Link(t.Context(), alice, "team/r0", sized("huge", limit+1))
	wantErr(t, "more than the quota", err, registry.ErrDenied)
	used := registry.AsError(err).Detail.(map[string]int64)["used"]
	if used > limit || used < limit/2 {
		t.Errorf("%d of %d bytes are used", used, limit)
	}
	t.Logf("%d of %d bytes used, %d of %d pushes refused", used, limit, denied, pushes)
	counted(t, s)
}

// The same manifest and blob of several repositories are collected together: each
// of the quota's counters sees what the one before it has counted.
func TestI10QuotaOfWhatGoesTogether(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		k := newKeeper(t, at(t), metadata.Options{Limits: quota(t, 1_000_000, "team/**")})
		for i := range 5 {
			k.push(t, registry.Name(fmt.Sprint("team/r", i)), "same")
		}
		k.push(t, "team/kept", "same", "latest")
		k.settle(t)
		counted(t, k.store)
		var refs []int64
		rows, err := k.db.Query(t.Context(), `SELECT refs FROM quota_content ORDER BY digest`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var n int64
			if err := rows.Scan(&n); err != nil {
				t.Fatal(err)
			}
			refs = append(refs, n)
		}
		if diff := cmp.Diff([]int64{1, 1, 1}, refs); diff != "" { // the manifest and two blobs of the repository that is kept
			t.Error(diff)
		}
	})
}

// I10: after any program of pushes, mounts, deletes, undeletes and collections
// the counters are what counting again finds.
func TestI10QuotaCounters(t *testing.T) { onEach(t, testI10QuotaCounters) }

func testI10QuotaCounters(t *testing.T, at newPlace) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	clock := newClock()
	limits := quota(t, 3000, "team/**")
	limits.Quotas = append(limits.Quotas, metadata.Quota{Repositories: globs(t, "team/r0", "other"), Bytes: 2000})
	s := openStore(t, at(t), metadata.Options{Now: clock.now, Limits: limits}, nil)
	ctx := t.Context()
	did := map[string]int{}
	for range 400 {
		repo := registry.Name([]string{"team/r0", "team/r1", "other"}[r.IntN(3)])
		blob := sized(fmt.Sprint("b", r.IntN(4)), 200)
		blob.Locator = registry.Locator(fmt.Sprint("upload ", r.Uint64()))
		m := image(blob, nil, registry.Tag(fmt.Sprint("t", r.IntN(3))))
		var err error
		what := []string{"link", "link", "put", "put", "mount", "unlink", "delete", "undelete", "delete repository", "collect"}[r.IntN(10)]
		switch what {
		case "link":
			_, err = s.Link(ctx, alice, repo, blob)
		case "put":
			_, err = s.PutManifest(ctx, alice, repo, m)
		case "mount":
			_, err = s.Mount(ctx, alice, repo, []registry.Digest{blob.Digest, m.Digest}[r.IntN(2)], "")
		case "unlink":
			err = s.Unlink(ctx, alice, repo, blob.Digest)
		case "delete":
			err = s.DeleteManifest(ctx, alice, repo, m.Digest)
		case "undelete":
			err = s.Undelete(ctx, alice, repo, registry.Reference{Digest: m.Digest})
		case "delete repository":
			if r.IntN(6) > 0 {
				continue
			}
			err = s.DeleteRepository(ctx, alice, repo)
		case "collect":
			clock.move(time.Duration(r.IntN(5)) * time.Hour)
			_, err = metadata.CollectAll(ctx, s.Catalog, true)
		}
		if err == nil {
			did[what]++
		}
		if e := registry.AsError(err); err != nil && e.Code == registry.Internal {
			t.Fatalf("%s: %v", what, err)
		}
	}
	counted(t, s)
	if len(did) < 7 {
		t.Errorf("only %v succeeded: this tests little", did)
	}
	t.Log(strings.TrimPrefix(fmt.Sprint(did), "map"))

	// A wrong counter is found.
	s.mustExec(t, `UPDATE quotas SET used = used + 1`)
	found := false
	for f, err := range s.Fsck(ctx, memory.NewBlobs(), false) {
		found = found || err == nil && f.Invariant == "I10"
	}
	if !found {
		t.Error("fsck does not find a wrong counter")
	}
}
