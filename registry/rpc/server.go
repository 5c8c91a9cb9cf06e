package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/tracing"
)

// ServerOptions are what a server needs. The zero value serves plaintext and
// logs nothing.
type ServerOptions struct {
	// Log gets the errors that clients are not told. nil: nowhere.
	Log *slog.Logger
	// Security encrypts and says who clients are. nil: plaintext.
	Security *Security
	// Reflect adds reflection to the server: reflect.Register. nil: none. Nothing
	// that it tells is secret, but neither is there a reason to tell everybody.
	Reflect func(*grpc.Server)
	// Audit remembers what clients do that are no service. nil: nobody does.
	Audit registry.Audit
	// owned says that whoever can connect owns the store.
	owned bool
	// Metrics is where calls are counted. nil: nobody wants to know.
	Metrics *metrics.Set
	// Traces makes calls spans of the traces they belong to. nil: they are none.
	Traces *tracing.Tracer
}

const (
	// maxStreams is how many calls one connection may have at a time.
	maxStreams = 4096
	// handshake is how long a client may take to connect.
	handshake = 20 * time.Second
)

// NewServer returns a server for [ServeBlobs] and [ServeCatalog]. Run it with
// [Serve].
func NewServer(o ServerOptions) *grpc.Server {
	return newServer(o, serverLimits())
}

func newServer(o ServerOptions, l limits, more ...grpc.ServerOption) *grpc.Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	creds := insecure.NewCredentials()
	if o.Security != nil {
		creds = o.Security.server()
	}
	o.Security.observe(o.Metrics)
	g := guard{o.Log, l, o.Security != nil, o.owned, o.Audit}
	return grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(creds),
		grpc.ConnectionTimeout(handshake),
		grpc.StatsHandler(observeServer(o.Metrics, o.Traces)),
		grpc.ForceServerCodecV2(newCodec(maxSmall)),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             10 * time.Second,
			PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time:    30 * time.Second,
			Timeout: 10 * time.Second,
			// Clients look up their servers when a connection ends, so this is how
			// they find new ones. Calls in progress go on as long as they like.
			MaxConnectionAge: 10 * time.Minute,
		}),
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
	}, more...)...)
}

const (
	// checkEvery is the time between two checks of a served port, and how long one
	// may take.
	checkEvery = 5 * time.Second
	// checkAgain is the time after one that failed: calls come back no sooner.
	checkAgain = time.Second
)

// Serve serves srv on l until ctx ends, then until the calls in progress have
// ended or drain ends, whichever comes first; nil if all is well. It also serves
// the gRPC health service (grpc.health.v1), which tells clients to go elsewhere
// while check fails and once ctx has ended. Serve owns l.
func Serve(ctx context.Context, l net.Listener, srv *grpc.Server, check registry.Checker, drain time.Duration) error {
	h := health.NewServer()
	healthv1.RegisterHealthServer(srv, h)
	well := probe(ctx, h, check)

	serving, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		keepProbing(serving, h, check, well)
		h.Shutdown() // readiness goes first
		end(srv, drain)
	}()
	err := srv.Serve(l)
	asked := ctx.Err() != nil
	stop()
	<-stopped
	if asked && (err == nil || errors.Is(err, grpc.ErrServerStopped)) {
		return nil
	}
	return fmt.Errorf("serving gRPC on %s: %w", l.Addr(), err)
}

// end lets calls in progress end, but not for longer than drain.
func end(srv *grpc.Server, drain time.Duration) {
	cut := time.AfterFunc(drain, srv.Stop)
	defer cut.Stop()
	srv.GracefulStop()
}

// keepProbing checks the port until ctx ends; well is how the last check ended.
func keepProbing(ctx context.Context, h *health.Server, check registry.Checker, well bool) {
	for {
		wait := checkEvery
		if !well {
			wait = checkAgain
		}
		if pause(ctx, wait) != nil {
			return
		}
		well = probe(ctx, h, check)
	}
}

// probe tells clients how the port is, and returns whether it is well.
func probe(ctx context.Context, h *health.Server, check registry.Checker) bool {
	ctx, cancel := context.WithTimeout(ctx, checkEvery)
	defer cancel()
	state := healthv1.HealthCheckResponse_SERVING
	_, err := check.Check(ctx)
	if err != nil {
		state = healthv1.HealthCheckResponse_NOT_SERVING
	}
	h.SetServingStatus("", state)
	return err == nil
}
