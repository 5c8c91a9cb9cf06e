package rpc

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/memory"
)

// abused is a connection to a server of ours that frames are sent on by hand.
type abused struct {
	net.Conn
	*http2.Framer
}

func abuse(t *testing.T, address string, s *Security) abused {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.pair.Current(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	return abused{c, http2.NewFramer(c, c)}
}

// ended reads until the server has hung up, or has said that it will.
func (a abused) ended(t *testing.T, what string) {
	t.Helper()
	for {
		f, err := a.ReadFrame()
		if _, away := f.(*http2.GoAwayFrame); away {
			return
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Errorf("%s: the connection is open still", what)
			return
		}
		if err != nil {
			return
		}
	}
}

// TestS109AbuseOfHTTP2 does to a port between services what hostile clients of HTTP/2 do:
// streams that are reset at once, headers without an end, frames and settings that are
// malformed. Each costs its own connection at most; others go on.
func TestS109AbuseOfHTTP2(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	address := overNetwork(t, ServerOptions{Security: named(t, ca, "metadata")}, func(srv *grpc.Server) {
		ServeCatalog(srv, memory.NewCatalog(memory.CatalogOptions{}))
	})
	client := named(t, ca, "gateway")
	good := NewCatalog(connect(t, address, DialOptions{Security: client, Server: Metadata}))
	well := func(when string) {
		t.Helper()
		if _, err := good.Repositories(t.Context(), registry.Actor{}, registry.Page[registry.Name]{Limit: 1}); err != nil {
			t.Errorf("%s others are not served: %v", when, err)
		}
	}
	block := func(extra int) []byte {
		var b bytes.Buffer
		enc := hpack.NewEncoder(&b)
		for _, h := range [][2]string{
			{":method", "POST"}, {":scheme", "https"}, {":authority", "metadata"}, {":path", "/berth.metadata.v1.CatalogService/ListRepositories"}, {"content-type", "application/grpc"}, {"te", "trailers"},
		} {
			_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		for range extra {
			_ = enc.WriteField(hpack.HeaderField{Name: "x", Value: string(bytes.Repeat([]byte("x"), 1000)), Sensitive: true})
		}
		return b.Bytes()
	}

	a := abuse(t, address, client)
	if err := a.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, a.Conn) // it answers, and must not wait for us
	for id := uint32(1); id < 20_000; id += 2 {
		err := a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(0), EndHeaders: true})
		if err == nil {
			err = a.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			break // it has had enough
		}
	}
	well("after 10,000 streams that were reset,")

	a = abuse(t, address, client)
	err := errors.Join(a.WriteSettings(), a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(0)}))
	for i := 0; err == nil && i < 100_000; i++ {
		err = a.WriteContinuation(1, false, block(10)[:10_000])
	}
	if err == nil {
		t.Error("a gigabyte of headers was taken")
	}
	well("after headers without an end,")

	for what, send := range map[string]func(a abused) error{
		"settings that are none": func(a abused) error { return a.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1}) },
		"a window of nothing": func(a abused) error {
			return errors.Join(a.WriteSettings(), a.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, []byte{0, 0, 0, 0}))
		},
		"a frame of a stream nobody": func(a abused) error {
			return errors.Join(a.WriteSettings(), a.WriteRawFrame(http2.FrameData, 0, 0, []byte("x")))
		},
		"a ping of seven bytes": func(a abused) error {
			return errors.Join(a.WriteSettings(), a.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)))
		},
		"a continuation of nothing": func(a abused) error {
			return errors.Join(a.WriteSettings(), a.WriteRawFrame(http2.FrameContinuation, 0, 1, []byte("x")))
		},
		"a stream of an even number": func(a abused) error {
			return errors.Join(a.WriteSettings(), a.WriteHeaders(http2.HeadersFrameParam{StreamID: 2, BlockFragment: block(0), EndHeaders: true}))
		},
		"headers that are not packed": func(a abused) error {
			return errors.Join(a.WriteSettings(), a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Repeat([]byte{0xff}, 100), EndHeaders: true}))
		},
		"a priority that is too short": func(a abused) error {
			return errors.Join(a.WriteSettings(), a.WriteRawFrame(http2.FramePriority, 0, 1, []byte{1}))
		},
	} {
		a := abuse(t, address, client)
		if err := send(a); err != nil {
			t.Fatal(err)
		}
		switch what {
		case "a priority that is too short": // an error of the stream, which is not open
		case "settings that are none": // of frames to us, which are small
		default:
			a.ended(t, what)
		}
		well("after " + what + ",")
	}
}
