package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/berth-registry/berth/registry"
)

// TestFailed says what each answer of an object store means.
func TestFailed(t *testing.T) {
	answer := func(status int, code string) error {
		err := errors.New("no body")
		if code != "" {
			err = &smithy.GenericAPIError{Code: code, Message: "on purpose"}
		}
		if status == 0 {
			return err
		}
		return &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: err,
		}}
	}
	for _, test := range []struct {
		err  error
		want error
	}{
		{answer(404, "NoSuchKey"), errNoObject},
		{answer(404, ""), errNoObject}, // HEAD has no body
		{answer(404, "NoSuchUpload"), errNoUpload},
		{answer(404, "NoSuchBucket"), registry.ErrUnavailable},
		{answer(405, "MethodNotAllowed"), registry.ErrUnavailable},
		{answer(400, "InvalidPart"), errBadPart},
		{answer(400, "InvalidPartOrder"), errBadPart},
		{answer(400, "EntityTooSmall"), errBadPart},
		{answer(412, "PreconditionFailed"), errChanged},
		{answer(412, ""), errChanged},
		{answer(409, "ConditionalRequestConflict"), registry.ErrUnavailable}, // nobody knows who was first
		{answer(409, "OperationAborted"), registry.ErrUnavailable},
		{answer(403, "QuotaExceeded"), registry.ErrStorageFull},
		{answer(507, "XMinioStorageFull"), registry.ErrStorageFull},
		{answer(507, ""), registry.ErrStorageFull},
		{answer(400, "EntityTooLarge"), registry.ErrStorageFull},
		{answer(403, "AccessDenied"), registry.ErrUnavailable},
		{answer(403, "ExpiredToken"), registry.ErrUnavailable},
		{answer(403, "RequestTimeTooSkewed"), registry.ErrUnavailable},
		{answer(403, "SignatureDoesNotMatch"), registry.ErrUnavailable},
		{answer(503, "SlowDown"), registry.ErrUnavailable},
		{answer(500, "InternalError"), registry.ErrUnavailable},
		{answer(416, "InvalidRange"), registry.ErrUnavailable},
		{fmt.Errorf("wrapped: %w", answer(404, "NoSuchKey")), errNoObject},
		{errors.New("connection refused"), registry.ErrUnavailable},
		{context.Canceled, registry.ErrUnavailable}, // not the caller's
		{nil, nil},
	} {
		got := failed(t.Context(), "doing", test.err)
		if test.want == nil && got != nil || !errors.Is(got, test.want) {
			t.Errorf("%v: got %v, want %v", test.err, got, test.want)
		}
		if test.err != nil && !errors.Is(got, test.err) {
			t.Errorf("%v: the cause is lost in %v", test.err, got)
		}
		// What callers in this package look for is nothing that clients are told.
		if test.want == errNoObject && errors.As(got, new(*registry.Error)) {
			t.Errorf("%v: got %v", test.err, got)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := failed(ended, "doing", answer(404, "NoSuchKey")); got != context.Canceled {
		t.Errorf("of a caller that has gone: %v", got)
	}
}
