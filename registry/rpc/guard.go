package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/berth-registry/berth/registry"
)

// guard is what every call to a server passes: it refuses those that the peer
// may not make, turns errors into statuses, writes those that are nobody's fault
// but ours to the log, survives panics, and ends calls that make no progress.
type guard struct {
	log    *slog.Logger
	limits limits
	secure bool // peers have certificates
	owned  bool // peers own the store
	audit  registry.Audit
}

// owner is the key of a context whose peer owns the store.
type owner struct{}

func (g guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	if err := g.authorize(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	if g.owned {
		ctx = context.WithValue(ctx, owner{}, true)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.limits.read)
		defer cancel()
	}
	err = g.protect(func() (err error) {
		resp, err = handler(ctx, req)
		return err
	})
	g.record(ctx, info.FullMethod, req, err)
	return resp, g.answer(ctx, info.FullMethod, err)
}

// stream runs handler in a goroutine of its own, because the only way to end a
// Send or Recv that is blocked is to return from here.
func (g guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := g.authorize(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	stalled, give := once()
	w := &watchedStream{ServerStream: ss, ctx: ss.Context(), patience: newPatience(g.limits.progress, give)}
	if g.owned {
		w.ctx = context.WithValue(w.ctx, owner{}, true)
	}
	defer w.patience.timer.Stop()

	done := make(chan error, 1)
	go func() {
		done <- g.protect(func() error { return handler(srv, w) })
	}()
	var err error
	select {
	case err = <-done:
	case <-stalled:
		err = registry.ErrUnavailable.With("nothing moved for %v", g.limits.progress)
	}
	g.record(ss.Context(), info.FullMethod, nil, err)
	return g.answer(ss.Context(), info.FullMethod, err)
}

// watchedStream notes when its peer lets it wait.
type watchedStream struct {
	grpc.ServerStream
	ctx      context.Context // says who the peer is
	patience *patience
}

// Context implements [grpc.ServerStream].
func (w *watchedStream) Context() context.Context { return w.ctx }

func (w *watchedStream) SendMsg(m any) error {
	return w.patience.during(func() error { return w.ServerStream.SendMsg(m) })
}

func (w *watchedStream) RecvMsg(m any) error {
	return w.patience.during(func() error { return w.ServerStream.RecvMsg(m) })
}

// panicked is the error of a handler that panicked.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

func (g guard) protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{v, debug.Stack()}
		}
	}()
	return f()
}

// answer turns a handler's error into a status, and logs what the status does
// not say.
func (g guard) answer(ctx context.Context, method string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return err // gRPC's own: the stream broke
	}
	st := toStatus(err)
	e, ours := failureOf(st)
	switch {
	case ours && e.Code.Kind() == registry.Fault:
		g.log.ErrorContext(ctx, "call failed", "method", method, "error", err.Error())
	case ours && registry.AsError(err).Err != nil:
		g.log.WarnContext(ctx, "call failed", "method", method, "code", e.Code.String(), "error", err.Error())
	}
	return st.Err()
}
