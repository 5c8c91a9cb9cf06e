package registrytest

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/berth-registry/berth/registry"
)

func commitTests() []test[*blobs] {
	return []test[*blobs]{
		{"CommitWrongDigest", testCommitWrongDigest},
		{"CommitMalformedDigest", testCommitMalformedDigest},
		{"CommitFromAFailingReader", testCommitReaderFails},
		{"CommitRepeated", testCommitRepeated},
		{"CommitInAnyAlgorithm", testCommitAlgorithms},
		{"CommitMakesManySizes", testCommitSizes},
		{"WritersOfOneDigest", testWritersOfOneDigest},
		{"CancelWhileCommitting", testCancelWhileCommitting},
	}
}

func testCommitWrongDigest(t *testing.T, b *blobs) {
	data := noise(big, 40)
	u := b.append(t, b.start(t), data[:1000])
	_, err := b.Commit(t.Context(), u, nil, sha256of(data))
	wantErr(t, "Commit of too little", err, registry.ErrDigestInvalid)
	b.checkOffset(t, u, 1000)

	_, err = b.Commit(t.Context(), u, bytes.NewReader(data[1000:2<<20]), sha256of(data))
	wantErr(t, "Commit of too little, with a last part", err, registry.ErrDigestInvalid)
	b.checkOffset(t, u, 2<<20)
	u.Offset = 2 << 20

	_, err = b.Commit(t.Context(), u, nil, registry.SHA512.FromBytes(data))
	wantErr(t, "Commit of too little by sha512", err, registry.ErrDigestInvalid)
	got, err := b.Copies(t.Context(), "", nil, 10)
	must(t, "Copies", err)
	if len(got) != 0 {
		t.Errorf("a refused Commit left copies: %v", got)
	}

	s, err := b.Commit(t.Context(), u, bytes.NewReader(data[2<<20:]), sha256of(data))
	must(t, "Commit", err)
	checkStored(t, s, "", data, registry.SHA256)
	b.checkContent(t, s, data)
}

func testCommitMalformedDigest(t *testing.T, b *blobs) {
	data := noise(1000, 41)
	u := b.append(t, b.start(t), data)
	for _, d := range []registry.Digest{
		"", "sha256", "sha256:", "sha256:xyz", "md5:d41d8cd98f00b204e9800998ecf8427e",
		"sha256:../../etc/passwd", sha256of(data) + "0", "SHA256:" + registry.Digest(sha256of(data).Encoded()),
	} {
		_, err := b.Commit(t.Context(), u, nil, d)
		wantErr(t, "Commit as "+string(d), err, registry.ErrDigestInvalid)
		b.checkOffset(t, u, 1000)
	}
	s, err := b.Commit(t.Context(), u, nil, sha256of(data))
	must(t, "Commit", err)
	b.checkContent(t, s, data)
}

func testCommitReaderFails(t *testing.T, b *blobs) {
	data := noise(big, 42)
	u := b.append(t, b.start(t), data[:1000])
	r := io.MultiReader(bytes.NewReader(data[1000:2<<20]), iotest.ErrReader(errReader))
	// Even if the bytes so far hash to the digest: the client didn't end.
	_, err := b.Commit(t.Context(), u, r, sha256of(data[:2<<20]))
	wantErr(t, "Commit from a reader that fails", err, errReader)
	u = b.settled(t, u)
	if u.Offset < 1000 || u.Offset > 2<<20 {
		t.Fatalf("the offset is %d, want 1,000 to %d", u.Offset, 2<<20)
	}
	s, err := b.Commit(t.Context(), u, bytes.NewReader(data[u.Offset:]), sha256of(data))
	must(t, "Commit", err)
	b.checkContent(t, s, data)
}

func testCommitRepeated(t *testing.T, b *blobs) {
	data := noise(3000, 43)
	u := b.append(t, b.start(t), data[:1000])
	s, err := b.Commit(t.Context(), u, bytes.NewReader(data[1000:]), sha256of(data))
	must(t, "Commit", err)

	// The session is gone.
	b.checkNoSession(t, u)

	// The answer may have got lost, and the client says it all again.
	for range 2 {
		again, err := b.Commit(t.Context(), u, bytes.NewReader(data[1000:]), sha256of(data))
		must(t, "Commit again", err)
		if again != s {
			t.Errorf("Commit again: got %+v, want %+v", again, s)
		}
	}
	again, err := b.Commit(t.Context(), registry.Upload{ID: u.ID, Offset: 3000}, nil, sha256of(data))
	must(t, "Commit again without the last part", err)
	if again != s {
		t.Errorf("Commit again without the last part: got %+v, want %+v", again, s)
	}
	got, err := b.Copies(t.Context(), "", nil, 10)
	must(t, "Copies", err)
	if len(got) != 1 || got[0] != s {
		t.Errorf("Copies: got %v, want %v alone", got, s)
	}
	b.checkContent(t, s, data)

	must(t, "Remove", b.Remove(t.Context(), s))
	_, err = b.Commit(t.Context(), u, bytes.NewReader(data[1000:]), sha256of(data))
	wantErr(t, "Commit again after Remove", err, registry.ErrUploadUnknown)
}

func testCommitAlgorithms(t *testing.T, b *blobs) {
	data := noise(big, 44)
	for _, announced := range []registry.Algorithm{registry.SHA256, registry.SHA512, ""} {
		for _, alg := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
			u, err := b.Start(t.Context(), "", announced)
			must(t, "Start", err)
			u = b.append(t, u, data[:2<<20])
			// A wrong guess in the other algorithm spoils nothing.
			_, err = b.Commit(t.Context(), u, nil, registry.SHA512.FromString("else"))
			wantErr(t, "Commit", err, registry.ErrDigestInvalid)
			s, err := b.Commit(t.Context(), u, bytes.NewReader(data[2<<20:]), alg.FromBytes(data))
			must(t, "Commit by "+string(alg)+" announced as "+string(announced), err)
			checkStored(t, s, "", data, alg)
			b.checkContent(t, s, data)
			must(t, "Verify", b.Verify(t.Context(), s, 0))
		}
	}
}

func testCommitSizes(t *testing.T, b *blobs) {
	seen := make(map[registry.Locator]bool)
	for _, n := range []int{0, 1, 4095, 4096, 32<<10 - 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2 << 20, 9<<20 + 1} {
		data := noise(n, 45)
		s := b.push(t, "", data)
		b.checkContent(t, s, data)
		must(t, "Verify", b.Verify(t.Context(), s, 0))
		if seen[s.Locator] {
			t.Errorf("locator %s twice", s.Locator)
		}
		seen[s.Locator] = true
	}
}

func testWritersOfOneDigest(t *testing.T, b *blobs) {
	const writers = 16
	data := noise(1<<20+5, 46)
	var all sync.WaitGroup
	got := make([]registry.Stored, writers)
	for i := range writers {
		all.Go(func() {
			u, err := b.Start(t.Context(), "", registry.SHA256)
			if err == nil {
				u, err = b.Append(t.Context(), u, bytes.NewReader(data[:i*1000]))
			}
			if err == nil {
				got[i], err = b.Commit(t.Context(), u, bytes.NewReader(data[i*1000:]), sha256of(data))
			}
			if err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	// Each has a copy of its own: removing one leaves the others.
	for i, s := range got {
		checkStored(t, s, "", data, registry.SHA256)
		b.checkContent(t, s, data)
		must(t, "Remove", b.Remove(t.Context(), s))
		_, err := b.Open(t.Context(), s, registry.Whole)
		wantErr(t, "Open after Remove", err, registry.ErrBlobUnknown)
		if i == writers/2 {
			break
		}
	}
	b.checkContent(t, got[writers-1], data)
}

func testCancelWhileCommitting(t *testing.T, b *blobs) {
	data := noise(big, 47)
	u := b.append(t, b.start(t), data[:1000])
	ctx, cancel := context.WithCancel(t.Context())
	last := &cancelReader{bytes.NewReader(data[1000 : 2<<20]), cancel}
	_, err := b.Commit(ctx, u, last, sha256of(data))
	wantCanceled(t, "Commit", err)
	u = b.settled(t, u)
	if u.Offset < 1000 {
		t.Errorf("the offset went back to %d from 1,000", u.Offset)
	}
	must(t, "Abort", b.Abort(t.Context(), u))
	b.checkNoSession(t, u)
}
