package s3

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// aged makes multipart uploads look two days old in lists.
type aged struct{}

var initiated = regexp.MustCompile(`<Initiated>[^<]*</Initiated>`)

func (aged) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet || !r.URL.Query().Has("uploads") {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	old := time.Now().Add(-48 * time.Hour).UTC().Format("2006-01-02T15:04:05.000Z")
	body = initiated.ReplaceAll(body, []byte("<Initiated>"+old+"</Initiated>"))
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, nil
}

// The sweep aborts old multipart uploads that no upload has (G13: orphans are gone
// within a day), and no others.
func TestG13SweepOfMultipartUploads(t *testing.T) {
	store, d := openPools(t, s3test.Start(t).Driver("/sweep"), Options{Transport: aged{}})
	ctx := t.Context()
	begin := func(key string) string {
		t.Helper()
		id, err := d.client.begin(ctx, key)
		if err == nil {
			_, err = d.client.part(ctx, key, id, 1, []byte("part"))
		}
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	// The upload goes on: its state, which is new, has the multipart upload.
	blob := noise(9<<20, 1)
	u, err := store.Start(ctx, "", "")
	if err == nil {
		u, err = store.Append(ctx, u, bytes.NewReader(blob[:len(blob)-10]))
	}
	if err != nil {
		t.Fatal(err)
	}
	rec, _, err := d.readState(ctx, u.ID)
	if err != nil || rec.Multipart == "" {
		t.Fatalf("state %+v, %v", rec, err)
	}
	live := rec.Multipart
	nobody := d.keys.newUploadID(time.Now(), registry.SHA256)
	orphan := begin(d.keys.data(object{kind: anonymous, id: nobody, nonce: newNonce()}, ""))
	expected := begin(d.keys.data(object{kind: named, id: nobody, nonce: newNonce()}, registry.SHA256.FromString("x")))
	second := begin(d.keys.data(object{kind: anonymous, id: u.ID, nonce: newNonce()}, "")) // of a call that was cut off
	foreign := begin(d.keys.home + "blobs/not-ours")
	elsewhere := begin("elsewhere/" + newNonce())

	left := func() []string {
		t.Helper()
		all, more, err := d.client.multiparts(ctx, "", nil)
		if err != nil || more {
			t.Fatal(more, err)
		}
		var ids []string
		for _, m := range all {
			ids = append(ids, m.upload)
		}
		return ids
	}
	sweep := func(age time.Duration) {
		t.Helper()
		if err := d.Sweep(ctx, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	sweep(72 * time.Hour)
	if n := len(left()); n != 6 {
		t.Fatalf("%d multipart uploads are left after a sweep of what is older, want 6", n)
	}
	sweep(24 * time.Hour)
	ids := left()
	for name, id := range map[string]string{"live": live, "foreign": foreign, "elsewhere": elsewhere} {
		if !slices.Contains(ids, id) {
			t.Errorf("the multipart upload %s was aborted", name)
		}
	}
	for name, id := range map[string]string{"orphan": orphan, "expected": expected, "second": second} {
		if slices.Contains(ids, id) {
			t.Errorf("the multipart upload %s is still there", name)
		}
	}
	s, err := store.Commit(ctx, u, bytes.NewReader(blob[len(blob)-10:]), registry.SHA256.FromBytes(blob))
	if err == nil {
		err = store.Verify(ctx, s, 0)
	}
	if err != nil {
		t.Errorf("the upload that went on: %v", err)
	}
}

// What says that an upload has ended is kept for as long as its id would be taken
// for a new one.
func TestSweepOfStates(t *testing.T) {
	now := time.Now()
	store, d := openPools(t, s3test.Start(t).Driver("/states"), Options{Now: func() time.Time { return now }})
	ctx := t.Context()
	start := func(data []byte) registry.Upload {
		t.Helper()
		u, err := store.Start(ctx, "", "")
		if err == nil {
			u, err = store.Append(ctx, u, bytes.NewReader(data))
		}
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	ended, idle := start([]byte("ended")), start(noise(9<<20, 3))
	if err := store.Abort(ctx, ended); err != nil {
		t.Fatal(err)
	}
	exists := func(u registry.Upload) bool {
		t.Helper()
		_, err := d.client.head(ctx, d.keys.state(u.ID))
		if err != nil && !isNone(err) {
			t.Fatal(err)
		}
		return err == nil
	}
	future := now.Add(time.Minute)
	if err := d.Sweep(ctx, future); err != nil {
		t.Fatal(err)
	}
	if !exists(ended) || !exists(idle) {
		t.Fatal("the state of an upload that ended a moment ago is gone")
	}
	if _, err := store.Append(ctx, idle, bytes.NewReader([]byte("more"))); err == nil {
		t.Error("an upload that expired goes on")
	}
	if all, _, err := d.client.multiparts(ctx, d.keys.home, nil); err != nil || len(all) != 0 {
		t.Errorf("its parts are left: %v, %v", all, err)
	}
	now = now.Add(believed + time.Minute)
	if err := d.Sweep(ctx, future); err != nil {
		t.Fatal(err)
	}
	if exists(ended) || exists(idle) {
		t.Error("the state of an upload that ended is kept for ever")
	}
}
