package rpc

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/memory"
)

func TestUnit(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local := memory.NewBlobs()
	srv := NewServer(ServerOptions{})
	ServeBlobs(srv, local)
	u := Unit("test", l, srv, local)
	ended := make(chan error, 1)
	go func() { ended <- u.Run() }()

	b, err := DialBlobs([]string{l.Addr().String()}, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := u.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	var out bytes.Buffer
	u, err = CatalogUnit(t.Context(), "127.0.0.1:0", memory.NewCatalog(memory.CatalogOptions{}), ServerOptions{Log: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil || !strings.Contains(out.String(), `msg="listening for metadata gRPC" address=127.0.0.1:`) {
		t.Errorf("%v, and the log says %s", err, out.String())
	}
	if err := u.Abandon(); err != nil {
		t.Error(err)
	}
	if _, err := BlobsUnit(t.Context(), "no address", local, ServerOptions{}); err == nil {
		t.Error("no error for an address nobody can listen on")
	}
}
