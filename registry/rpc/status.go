package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	failurev1 "github.com/berth-registry/berth/proto/gen/berth/failure/v1"
	"github.com/berth-registry/berth/registry"
)

// maxRetryAfter is the longest wait that is believed.
const maxRetryAfter = 24 * time.Hour

// grpcCode returns the code that tells a client without knowledge of our own
// codes the most.
func grpcCode(k registry.Kind) codes.Code {
	switch k {
	case registry.Invalid:
		return codes.InvalidArgument
	case registry.NotFound:
		return codes.NotFound
	case registry.Forbidden:
		return codes.PermissionDenied
	case registry.Stranger:
		return codes.Unauthenticated
	case registry.Conflict:
		return codes.FailedPrecondition
	case registry.Outside:
		return codes.OutOfRange
	case registry.Exhausted:
		return codes.ResourceExhausted
	case registry.Passing:
		return codes.Unavailable
	case registry.NotProvided:
		return codes.Unimplemented
	case registry.Gone:
		return codes.Canceled
	}
	return codes.Internal
}

// toStatus returns err as it goes over the wire: the error of a context or a
// short read as a bare status, everything else with a Failure, in which an
// unknown error is Internal without its text.
func toStatus(err error) *status.Status {
	known, ok := errors.AsType[*registry.Error](err)
	if !ok {
		switch {
		case err == nil:
			return nil
		case errors.Is(err, context.Canceled):
			return status.New(codes.Canceled, "request cancelled")
		case errors.Is(err, context.DeadlineExceeded):
			return status.New(codes.DeadlineExceeded, "deadline exceeded")
		case errors.Is(err, io.ErrUnexpectedEOF):
			return status.New(codes.DataLoss, "content ends too early")
		}
		known = registry.ErrInternal
	}
	text := strings.ToValidUTF8(known.Text(), "\uFFFD")
	f := &failurev1.Failure{Code: known.Code.String(), RetryAfterMs: known.RetryAfter.Milliseconds()}
	if known.Message != "" {
		f.Message = text
	}
	if known.Detail != nil {
		// A detail that JSON can't write, or nobody can read, is not worth an error.
		if b, err := json.Marshal(known.Detail); err == nil && len(b) <= maxDetail {
			f.Detail = b
		}
	}
	st := status.New(grpcCode(known.Code.Kind()), text)
	if with, err := st.WithDetails(f); err == nil {
		return with
	}
	return st
}

// failureOf returns the registry's error that a status carries, if any.
func failureOf(st *status.Status) (*registry.Error, bool) {
	for _, d := range st.Details() {
		f, ok := d.(*failurev1.Failure)
		if !ok {
			continue
		}
		e := &registry.Error{Code: codeNamed(f.GetCode()), Message: f.GetMessage()}
		if ms := f.GetRetryAfterMs(); ms > 0 {
			e.RetryAfter = time.Duration(min(ms, maxRetryAfter.Milliseconds())) * time.Millisecond
		}
		if json.Valid(f.GetDetail()) {
			e.Detail = json.RawMessage(f.GetDetail())
		}
		return e, true
	}
	return nil, false
}

func codeNamed(name string) registry.Code {
	for _, c := range registry.Codes() {
		if c.String() == name {
			return c
		}
	}
	return registry.Internal
}

// fromStatus returns what a call of the given context that failed with err
// tells its caller. ctx is the caller's own, without what we added to it.
func fromStatus(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*registry.Error); ok {
		return e // made on this side
	}
	st := status.Convert(err)
	if e, ok := failureOf(st); ok {
		return e
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch st.Code() {
	case codes.DeadlineExceeded:
		if _, ok := ctx.Deadline(); ok {
			return context.DeadlineExceeded // the server's clock was a little faster
		}
		return registry.ErrUnavailable.Because(fmt.Errorf("no answer in time: %w", err))
	case codes.Unavailable, codes.Canceled, codes.Aborted:
		return registry.ErrUnavailable.Because(err)
	case codes.ResourceExhausted:
		return registry.ErrTooLarge.Because(err)
	case codes.DataLoss:
		return io.ErrUnexpectedEOF
	}
	return registry.ErrInternal.Because(err)
}

// neverArrived reports whether err is the network's, not a service's.
func neverArrived(err error) bool {
	st := status.Convert(err)
	_, ours := failureOf(st)
	return st.Code() == codes.Unavailable && !ours
}
