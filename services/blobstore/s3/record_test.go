package s3

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

func records() []record {
	o := object{kind: anonymous, id: registry.NewUploadID(time.Unix(1e9, 0)), nonce: "0123456789abcdef"}
	d := registry.SHA256.FromString("content")
	return []record{
		{Writer: "w", Ended: aborted},
		{Writer: "w", Ended: published, Offset: 10, Object: o.locator(), Digest: d},
		{Writer: "w", Offset: 3, Tail: 3, TailSum: checksum([]byte("abc")), Hashes: []blobstore.HashState{{Algorithm: registry.SHA256, State: []byte("state")}}},
		{Writer: "w", Offset: 2 * partSize, Object: o.locator(), Multipart: "m", Parts: []string{`"a"`, `"b"`}},
		{Writer: "w", Offset: partSize + 3, Tail: 3, TailSum: checksum([]byte("abc")), Object: o.locator(), Digest: d, Multipart: "m", Parts: []string{`"a"`}},
	}
}

// encoded returns a record with its tail, which is abc if it has one.
func encoded(t testing.TB, r record) []byte {
	b, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(b, "abc"[:r.Tail]...)
}

func TestRecord(t *testing.T) {
	for _, want := range records() {
		b := encoded(t, want)
		got, err := readRecord(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Errorf("%+v: %v", want, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if live := len(b) >= minLive; live != (want.Ended == "") {
			t.Errorf("%+v takes %d bytes: a list could not tell whether it has ended", want, len(b))
		}
		for i := range b[:len(b)-int(want.Tail)] {
			b[i] ^= 1
			if _, err := readRecord(bytes.NewReader(b), int64(len(b))); !errors.Is(err, errRecord) && err != io.ErrUnexpectedEOF {
				t.Fatalf("%+v with byte %d flipped: %v", want, i, err)
			}
			b[i] ^= 1
			if _, err := readRecord(bytes.NewReader(b[:i]), int64(i)); err == nil {
				t.Fatalf("%+v cut off after %d bytes is read", want, i)
			}
		}
	}
}

// Whatever lies where a state should be is refused, or fits together.
func FuzzReadRecord(f *testing.F) {
	for _, r := range records() {
		f.Add(encoded(f, r))
	}
	f.Add([]byte("BUS3\xff\xff\xff\xff\x00\x00\x00\x00{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		r, err := readRecord(in, int64(len(b)))
		if err != nil {
			return
		}
		if tail := int64(in.Len()); r.Tail != tail || !r.sane(tail) {
			t.Fatalf("%+v with %d bytes behind it", r, tail)
		}
		if r.Offset < 0 || r.Ended == "" && r.Offset != int64(len(r.Parts))*partSize+r.Tail {
			t.Fatalf("%+v", r)
		}
	})
}
