package allinone

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/allinone/zotroot"
	"github.com/berth-registry/berth/registry"
)

// besides is a registry that makes the files of another one its own, and others who use
// it at each step of that.
type besides struct {
	t      *testing.T
	root   *zotroot.Root
	k      *killing
	a      adopted
	file   string // config
	steps  chan string
	goOn   chan struct{}
	met    map[string]int
	n      int                // how often others came
	pushed map[string][]byte  // manifests, by URL path
	gone   []zotroot.Manifest // deleted, to be restored in the end
}

func newBesides(t *testing.T, seed uint64) *besides {
	t.Helper()
	b := &besides{
		t: t, root: zotroot.Make(t, seed, 30), steps: make(chan string), goOn: make(chan struct{}),
		met: map[string]int{}, pushed: map[string][]byte{},
	}
	b.k = &killing{dir: b.root.Dir, ready: make(chan struct{})}
	b.a = b.k.open(t, b.root, "")
	b.file = adoptConfig(t, b.root)
	control(t, b.root.Dir, b.k, b.a.catalog)
	if out, code := runAdopt(t, b.root, "adopt"); code != exitFindings || !strings.Contains(out, "repositories: 13 taken over") {
		t.Fatalf("adopt: %d %s", code, out)
	}
	return b
}

// when lets others come at the calls that all name, in the test's own goroutine, while
// the registry waits: each by the call and how many of it went before.
func (b *besides) when(all ...string) {
	b.k.beside = func(call string) {
		at := fmt.Sprintf("%s %d", call, b.met[call])
		b.met[call]++
		if !slices.Contains(all, at) {
			return
		}
		select {
		case b.steps <- at:
			select {
			case <-b.goOn:
			case <-b.t.Context().Done():
			}
		case <-b.t.Context().Done():
		}
	}
}

// finish makes the files the registry's own, and calls do whenever others come.
func (b *besides) finish(do func(at string)) registry.TakeOverFinish {
	t := b.t
	t.Helper()
	if err := b.a.catalog.FinishTakeOvers(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case at := <-b.steps:
			do(at)
			b.goOn <- struct{}{}
		case <-time.After(adoptPoll / 10):
		}
		f, err := b.a.catalog.TakeOverFinish(t.Context(), operator)
		if err != nil || f.Failure != "" {
			t.Fatal(err, f.Failure)
		}
		if f.Ended > 0 {
			return f
		}
	}
}

// use pushes to a repository that is being finished, uses a blob of it that was taken
// over, there and elsewhere, deletes and restores an image of it, and deletes another.
func (b *besides) use(at string) {
	t := b.t
	t.Helper()
	b.n++
	repo := fmt.Sprintf("library/app%d", b.n%5)
	images := b.tagged(repo)
	url := b.a.url + "/v2/"
	path := repo + "/manifests/" + fmt.Sprintf("beside%d", b.n)
	b.pushed[path] = pushImage(t, url+repo, fmt.Sprintf("beside%d", b.n), at+path)

	layer := b.blobOf(repo)
	head := send(t, http.MethodHead, url+repo+"/blobs/"+layer.Digest.String(), nil, "")
	mounted := send(t, http.MethodPost, url+fmt.Sprintf("mounted/r%d/blobs/uploads/?mount=%s&from=%s", b.n, layer.Digest, repo), nil, "")
	if head.StatusCode != http.StatusOK || mounted.StatusCode != http.StatusCreated {
		t.Errorf("%s: HEAD of a blob %s, mount %s", at, head.Status, mounted.Status)
	}
	m := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[],"annotations":{"n":"%d"}}`,
		registry.TypeManifest, layer.Digest, head.ContentLength, b.n)
	for _, path := range []string{repo + fmt.Sprintf("/manifests/reuse%d", b.n), fmt.Sprintf("mounted/r%d/manifests/1", b.n)} {
		if resp := send(t, http.MethodPut, url+path, m, registry.TypeManifest); resp.StatusCode != http.StatusCreated {
			t.Errorf("%s: pushing what uses it: %s", at, resp.Status)
		}
		b.pushed[path] = m
	}

	back, gone := images[0], images[1]
	ref := registry.Reference{Digest: back.Digest}
	for _, m := range []zotroot.Manifest{back, gone} {
		if resp := send(t, http.MethodDelete, url+repo+"/manifests/"+m.Digest.String(), nil, ""); resp.StatusCode != http.StatusAccepted {
			t.Errorf("%s: deleting %s: %s", at, m.Digest, resp.Status)
		}
	}
	if err := b.a.catalog.Undelete(t.Context(), operator, registry.Name(repo), ref); err != nil {
		t.Errorf("%s: restoring an image: %v", at, err)
	}
	b.gone = append(b.gone, gone)
	b.a.check(t, b.without())
}

// tagged returns the images of a repository that have a tag and were not deleted.
func (b *besides) tagged(repo string) (all []zotroot.Manifest) {
	for _, m := range b.without().Manifests {
		if m.Repo == repo && len(m.Tags) > 0 {
			all = append(all, m)
		}
	}
	if len(all) < 2 {
		b.t.Fatalf("repository %s has too few images left", repo)
	}
	return all
}

func (b *besides) blobOf(repo string) zotroot.Blob {
	for _, x := range b.root.Blobs {
		if x.Repo == repo {
			return x
		}
	}
	b.t.Fatalf("repository %s has no blob", repo)
	return zotroot.Blob{}
}

// without is the root without what was deleted.
func (b *besides) without() *zotroot.Root {
	r := *b.root
	r.Manifests = slices.DeleteFunc(slices.Clone(r.Manifests), func(m zotroot.Manifest) bool {
		return slices.ContainsFunc(b.gone, func(g zotroot.Manifest) bool { return g.Repo == m.Repo && g.Digest == m.Digest })
	})
	return &r
}

// check reads all that there should be from the registry at url.
func (b *besides) check(t *testing.T, url string, pushed map[string][]byte) {
	t.Helper()
	b.without().Check(t, url)
	for path, want := range pushed {
		if code, got := fetch(t, url+"/v2/"+path); code != http.StatusOK || !bytes.Equal(got, want) {
			t.Errorf("%s: %d %.100s", path, code, got)
		}
	}
}

// backup makes a backup of the running registry. What is damaged in the other registry's
// directory is nothing that it has.
func (b *besides) backup(at string) {
	t := b.t
	t.Helper()
	target := filepath.Join(t.TempDir(), "backup")
	if out, err := runBerth(t, "backup", "create", b.file, "--to", target); err != nil {
		t.Errorf("%s: backup: %v\n%s", at, err, out)
	}
	if out, err := runBerth(t, "backup", "verify", "--from", target, "--read-data"); err != nil {
		t.Errorf("%s: verify: %v\n%s", at, err, out)
	}
	b.restore(at, target)
}

// restore restores a backup into an empty store, and reads everything there.
func (b *besides) restore(at, target string) {
	t := b.t
	t.Helper()
	r := *b.without()
	r.Dir, r.Hot = t.TempDir(), t.TempDir()
	if out, err := runBerth(t, "backup", "restore", adoptConfig(t, &r), "--from", target); err != nil {
		t.Errorf("%s: restore: %v\n%s", at, err, out)
	}
	if out, err := runFsckOn(t, &r, "--read-data"); err != nil {
		t.Errorf("%s: fsck of what was restored: %v\n%s", at, err, out)
	}
	a := serveAdopted(t, &r)
	b.check(t, a.url, b.pushed)
	a.close()
}

// TestFinishBesideOthers makes another registry's files the registry's own while others
// push, use what was taken over, delete, restore, and make backups, before and after each
// kind of step. All can be pulled all the time; what was deleted comes back in the end;
// each backup is restored and has all that there was.
func TestFinishBesideOthers(t *testing.T) {
	b := newBesides(t, 10)
	b.backup("before")
	b.when("before TakeOver 0", "after TakeOver 0", "before TakeOver 20", "before LayoutFiles 0", "before RemoveLayout 0",
		"after RemoveLayout 0", "before RemoveLayout 3", "after RemoveLayoutFiles 0")
	saved := map[string]bool{"before TakeOver 20": true, "before LayoutFiles 0": true, "after RemoveLayout 0": true}
	f := b.finish(func(at string) {
		b.use(at)
		if saved[at] {
			b.backup(at)
		}
		if at == "before TakeOver 20" {
			if out, err := runBerth(t, "backup", "restore", b.file, "--from", t.TempDir()); exitCode(err) != exitNotDone {
				t.Errorf("a restore over the registry that runs: %v\n%s", err, out)
			}
		}
	})
	if f.Kept != 2 || f.ForeignBlobs != 0 || b.n != 8 {
		t.Errorf("finished: %+v after others came %d times", f, b.n)
	}
	for _, m := range b.gone {
		if err := b.a.catalog.Undelete(t.Context(), operator, registry.Name(m.Repo), registry.Reference{Digest: m.Digest}); err != nil {
			t.Errorf("restoring %s of %s when all is done: %v", m.Digest, m.Repo, err)
		}
	}
	b.gone = nil
	b.check(t, b.a.url, b.pushed)
	b.backup("afterwards")
	if out, err := runBerth(t, "fsck", "--online", b.file); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}

// TestFinishWithinABackup makes the files the registry's own between the moment of which
// a backup is and the copying of its blobs: none of these is any more where the backup
// has read that it is.
func TestFinishWithinABackup(t *testing.T) {
	b := newBesides(t, 11)
	reading, finished := make(chan struct{}), make(chan struct{})
	var begun atomic.Bool
	wait := func() {
		if begun.Swap(true) {
			return // whoever comes later is not held up: the finish reads, too
		}
		close(reading)
		select {
		case <-finished:
		case <-t.Context().Done():
		}
	}
	b.k.reads.Store(&wait)
	target := filepath.Join(t.TempDir(), "backup")
	type result struct {
		out string
		err error
	}
	made := make(chan result, 1)
	go func() {
		out, err := runBerth(t, "backup", "create", b.file, "--to", target, "--workers", "1")
		made <- result{out, err}
	}()
	select {
	case <-reading:
	case r := <-made:
		t.Fatalf("the backup has read nothing: %v\n%s", r.err, r.out)
	}
	if f := b.finish(nil); f.Kept != 2 || f.ForeignBlobs != 0 {
		t.Errorf("finished: %+v", f)
	}
	close(finished)
	if r := <-made; r.err != nil {
		t.Errorf("backup: %v\n%s", r.err, r.out)
	}
	if out, err := runBerth(t, "backup", "verify", "--from", target, "--read-data"); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	b.restore("within", target)
}
