package registrytest

import (
	"bytes"
	"testing"

	"github.com/berth-registry/berth/registry"
)

func crashTests() []test[*blobs] {
	return []test[*blobs]{
		{"ReopenKeepsBlobs", testReopenBlobs},
		{"ReopenKeepsSessions", testReopenSessions},
	}
}

// reopen crashes the store and opens it again. It reports whether it can.
func (b *blobs) reopen(t *testing.T) bool {
	t.Helper()
	if b.backend.Reopen == nil {
		t.Log("the backend can't be opened again")
		return false
	}
	b.Blobs = b.backend.Reopen(t, b.Blobs)
	return true
}

func testReopenBlobs(t *testing.T, b *blobs) {
	pools := append([]registry.Pool{""}, b.backend.Pools...)
	want := make(map[registry.Stored][]byte)
	for i, p := range pools {
		for _, n := range []int{0, 1000, big} {
			data := noise(n, byte(70+i))
			want[b.push(t, p, data)] = data
		}
	}
	gone := b.push(t, "", noise(10, 79))
	must(t, "Remove", b.Remove(t.Context(), gone))
	data := noise(1000, 78)
	u := b.append(t, b.start(t), data)
	s, err := b.Commit(t.Context(), u, nil, sha256of(data))
	must(t, "Commit", err)
	want[s] = data

	for range 2 {
		if !b.reopen(t) {
			return
		}
		listed := 0
		for _, p := range pools {
			listed += len(b.copies(t, p, 1000))
		}
		if listed != len(want) {
			t.Errorf("%d copies are listed, want %d", listed, len(want))
		}
		for s, data := range want {
			b.checkContent(t, s, data)
			must(t, "Verify", b.Verify(t.Context(), s, 0))
		}
		_, err := b.Open(t.Context(), gone, registry.Whole)
		wantErr(t, "Open of what was removed", err, registry.ErrBlobUnknown)
		again, err := b.Commit(t.Context(), u, nil, sha256of(data))
		must(t, "Commit again", err)
		if again != s {
			t.Errorf("Commit again: got %+v, want %+v", again, s)
		}
	}
}

func testReopenSessions(t *testing.T, b *blobs) {
	aborted := b.append(t, b.start(t), noise(1000, 80))
	must(t, "Abort", b.Abort(t.Context(), aborted))
	open := make(map[registry.Upload][]byte)
	for i, p := range append([]registry.Pool{""}, b.backend.Pools...) {
		for _, n := range []int{0, 1000, big} {
			for _, alg := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
				data := noise(n+500, byte(80+i))
				u, err := b.Start(t.Context(), p, alg)
				must(t, "Start", err)
				open[b.append(t, u, data[:n])] = data
			}
		}
	}
	if !b.reopen(t) {
		return
	}
	for u, data := range open {
		now, err := b.Status(t.Context(), u)
		must(t, "Status", err)
		if now.Offset < 0 || now.Offset > u.Offset || now.ID != u.ID || now.Pool != u.Pool {
			t.Errorf("Status: got %+v, want at most %+v", now, u)
			continue
		}
		now, err = b.Append(t.Context(), now, bytes.NewReader(data[now.Offset:len(data)-100]))
		must(t, "Append", err)
		s, err := b.Commit(t.Context(), now, bytes.NewReader(data[len(data)-100:]), sha256of(data))
		must(t, "Commit", err)
		checkStored(t, s, u.Pool, data, registry.SHA256)
		b.checkContent(t, s, data)
	}
	b.checkNoSession(t, aborted)
}
