package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

// unary makes one unary call. It gives ctx the deadline limit if it has none.
// If again is set the call changes nothing and may be repeated when the network
// fails.
func unary[Req, Resp any](ctx context.Context, l limits, limit time.Duration, again bool,
	f func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), req *Req,
) (resp *Resp, err error) {
	bounded := ctx
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeoutCause(ctx, limit, errStalled)
		defer cancel()
	}
	err = repeat(bounded, l, again, func() (err error) {
		resp, err = f(bounded, req, grpc.MaxCallRecvMsgSize(maxMessage))
		return err
	})
	if err != nil {
		return nil, fromStatus(ctx, err)
	}
	return resp, nil
}

// repeat calls f, and if again is set up to two more times while the network
// fails.
func repeat(ctx context.Context, l limits, again bool, f func() error) error {
	wait := l.backoff
	for try := 1; ; try++ {
		err := f()
		if err == nil || !again || try == 3 || !neverArrived(err) {
			return err
		}
		if pause(ctx, wait) != nil {
			return err
		}
		wait *= 2
	}
}
