package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// failing returns a client of a service whose Check fails with *err.
func failing(t *testing.T, err *error) (*blobs, *bytes.Buffer) {
	var log bytes.Buffer
	p := newPair()
	p.log = &log
	p.client.backoff = time.Microsecond
	return p.blobs(t, &faulty{Blobs: memory.NewBlobs(), check: func(context.Context) (registry.Health, error) {
		return registry.Health{}, *err
	}}), &log
}

func TestErrorsSurviveTheWire(t *testing.T) {
	var served error
	b, _ := failing(t, &served)
	for _, code := range registry.Codes() {
		sent := &registry.Error{Code: code, Message: "told to " + code.String(), Detail: map[string]any{"n": 1.5}, Err: errors.New("secret")}
		for name, e := range map[string]error{"full": sent, "bare": &registry.Error{Code: code}, "wrapped": fmt.Errorf("secret: %w", sent)} {
			served = e
			_, err := b.Check(t.Context())
			got, ok := err.(*registry.Error)
			if !ok || got.Code != code || !errors.Is(err, &registry.Error{Code: code}) {
				t.Errorf("%v, %s: got %v", code, name, err)
				continue
			}
			if want := registry.AsError(e); got.Text() != want.Text() || got.Message != want.Message {
				t.Errorf("%v, %s: got text %q, want %q", code, name, got.Text(), want.Text())
			}
			detail, err := json.Marshal(got.Detail)
			want, _ := json.Marshal(registry.AsError(e).Detail)
			if err != nil || !bytes.Equal(detail, want) {
				t.Errorf("%v, %s: got detail %s, want %s", code, name, detail, want)
			}
			if strings.Contains(got.Error(), "secret") {
				t.Errorf("%v, %s: the cause came over the wire: %v", code, name, got)
			}
		}
	}
}

// Every kind has a gRPC code that means something to clients in other languages.
func TestGRPCCodes(t *testing.T) {
	got := map[string]string{}
	for _, c := range registry.Codes() {
		got[c.String()] = grpcCode(c.Kind()).String()
	}
	want := map[string]string{
		"Internal": "Internal", "BlobUnknown": "NotFound", "UploadInvalid": "InvalidArgument",
		"UploadUnknown": "NotFound", "DigestInvalid": "InvalidArgument", "ManifestBlobUnknown": "InvalidArgument",
		"ManifestInvalid": "InvalidArgument", "ManifestUnknown": "NotFound", "MediaTypeUnsupported": "InvalidArgument",
		"NameInvalid": "InvalidArgument", "NameUnknown": "NotFound", "TagInvalid": "InvalidArgument",
		"SizeInvalid": "InvalidArgument", "PageInvalid": "InvalidArgument", "ParameterInvalid": "InvalidArgument", "Unauthorized": "Unauthenticated",
		"Denied": "PermissionDenied", "Unsupported": "Unimplemented", "EndpointUnknown": "NotFound", "InUse": "FailedPrecondition",
		"ManifestCollision": "FailedPrecondition", "PreconditionFailed": "FailedPrecondition", "RangeInvalid": "OutOfRange",
		"TooManyRanges": "InvalidArgument", "URLTooLong": "InvalidArgument", "Stalled": "Canceled", "TooLarge": "ResourceExhausted",
		"TooManyTags": "ResourceExhausted", "TooManyRequests": "ResourceExhausted", "Unavailable": "Unavailable",
		"StorageFull": "ResourceExhausted", "Canceled": "Canceled",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownErrors(t *testing.T) {
	var served error
	b, log := failing(t, &served)
	for _, test := range []struct {
		served error
		want   error
		logged bool
	}{
		{errors.New("secret path /x"), registry.ErrInternal, true},
		{fmt.Errorf("secret: %w", context.Canceled), registry.ErrUnavailable, false}, // not our caller's
		{context.DeadlineExceeded, registry.ErrUnavailable, false},
		{registry.ErrInternal.Because(errors.New("secret")), registry.ErrInternal, true},
		{registry.ErrUnavailable.Because(errors.New("secret")), registry.ErrUnavailable, true},
		{registry.ErrBlobUnknown, registry.ErrBlobUnknown, false},
		// A peer's status is a cause like any other.
		{registry.ErrUnavailable.Because(status.Error(codes.NotFound, "secret")), registry.ErrUnavailable, true},
		{fmt.Errorf("asking a peer: %w", status.Error(codes.NotFound, "secret")), registry.ErrInternal, true},
		{registry.ErrManifestInvalid.Detailed(make(chan int)), registry.ErrManifestInvalid, false},
		{registry.ErrManifestInvalid.With("bad \xff text"), registry.ErrManifestInvalid, false},
		{registry.ErrManifestInvalid.Detailed(strings.Repeat("x", maxDetail)), registry.ErrManifestInvalid, false},
	} {
		served = test.served
		log.Reset()
		_, err := b.Check(t.Context())
		if !errors.Is(err, test.want) {
			t.Errorf("%.80v: got %v, want %v", test.served, err, test.want)
		}
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.80v: the client sees %v", test.served, err)
		}
		if logged := strings.Contains(log.String(), "secret"); logged != test.logged {
			t.Errorf("%.80v: logged %v, want %v: %s", test.served, logged, test.logged, log)
		}
	}
}

// A manifest may lack as many digests as it has.
func TestLargeDetail(t *testing.T) {
	missing := make([]string, registry.MaxDescriptors)
	for i := range missing {
		missing[i] = registry.SHA256.FromString(fmt.Sprint(i)).String()
	}
	var served error = registry.ErrManifestBlobUnknown.Detailed(missing)
	b, _ := failing(t, &served)
	_, err := b.Check(t.Context())
	detail, ok := registry.AsError(err).Detail.(json.RawMessage)
	var got []string
	if !ok || json.Unmarshal(detail, &got) != nil {
		t.Fatalf("got %T in %v", registry.AsError(err).Detail, err)
	}
	if diff := cmp.Diff(missing, got); diff != "" {
		t.Error(diff)
	}
}

func TestContextErrors(t *testing.T) {
	p := newPair()
	b := p.blobs(t, &faulty{Blobs: memory.NewBlobs(), check: func(ctx context.Context) (registry.Health, error) {
		<-ctx.Done()
		return registry.Health{}, ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(5*time.Millisecond, cancel)
	if _, err := b.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if _, err := b.Check(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: got %v", err)
	}
}

func TestPanicsAreSurvived(t *testing.T) {
	var log bytes.Buffer
	p := newPair()
	p.log = &log
	local := &faulty{Blobs: memory.NewBlobs()}
	b := p.blobs(t, local)
	s := put(t, local.Blobs, pattern(1<<20))

	local.check = func(context.Context) (registry.Health, error) { panic("in a unary call") }
	local.append = func(context.Context, registry.Upload, io.Reader) (registry.Upload, error) { panic("in a stream") }
	local.open = func(context.Context, registry.Stored, registry.Range) (registry.Content, error) {
		return panickyContent{}, nil
	}
	_, err := b.Check(t.Context())
	wantErr(t, "unary", err, registry.ErrInternal)
	_, err = b.Append(t.Context(), registry.Upload{ID: registry.NewUploadID(time.Now())}, strings.NewReader("x"))
	wantErr(t, "client stream", err, registry.ErrInternal)
	c, err := b.Open(t.Context(), s, registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, c)
	wantErr(t, "server stream", err, registry.ErrInternal)
	c.Close()
	p.stop()
	for _, want := range []string{"in a unary call", "in a stream", "in a reader", "status_test.go", "AppendUpload"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q", want)
		}
	}
}

type panickyContent struct{ registry.Content }

func (panickyContent) Read([]byte) (int, error) { panic("in a reader") }
func (panickyContent) Size() int64              { return 1 << 20 }
func (panickyContent) Close() error             { return nil }

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// Only what changes nothing is tried again, and only if the network failed.
func TestRepetitions(t *testing.T) {
	refuse := status.Error(codes.Unavailable, "nobody there")
	for _, test := range []struct {
		name string
		fail error
		call func(*blobs) error
		want int
	}{
		{"read", refuse, func(b *blobs) error { _, err := b.Check(t.Context()); return err }, 3},
		{"open", refuse, func(b *blobs) error { _, err := b.Open(t.Context(), registry.Stored{}, registry.Whole); return err }, 3},
		{"write", refuse, func(b *blobs) error { _, err := b.Start(t.Context(), "", ""); return err }, 1},
		{"append", refuse, func(b *blobs) error {
			_, err := b.Append(t.Context(), registry.Upload{}, strings.NewReader("x"))
			return err
		}, 1},
		{"the service's own", toStatus(registry.ErrUnavailable).Err(), func(b *blobs) error { _, err := b.Check(t.Context()); return err }, 1},
	} {
		conn := &refusingConn{err: test.fail}
		l := clientLimits()
		l.backoff = time.Microsecond
		err := test.call(newBlobs(conn, l, mem.DefaultBufferPool()))
		wantErr(t, test.name, err, registry.ErrUnavailable)
		if conn.calls != test.want {
			t.Errorf("%s: got %d calls, want %d", test.name, conn.calls, test.want)
		}
	}
}

// refusingConn is a network that is down.
type refusingConn struct {
	err   error
	calls int
}

func (c *refusingConn) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	c.calls++
	return c.err
}

func (c *refusingConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	c.calls++
	return nil, c.err
}

var _ blobstorev1.BlobServiceServer = (*blobsServer)(nil)
