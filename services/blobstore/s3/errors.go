package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/berth-registry/berth/registry"
)

// What callers in this package want to tell apart.
var (
	errNoObject = errors.New("no such object")
	errNoUpload = errors.New("no such multipart upload")
	errChanged  = errors.New("the object has changed") // a condition did not hold
	errBadPart  = errors.New("a part is not what it was")
	errAnswer   = errors.New("the object store's answer makes no sense")
)

// failed returns what a request that failed with err means.
func failed(ctx context.Context, doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.Canceled):
		return registry.ErrUnavailable.Because(fmt.Errorf("%s: %w", doing, err))
	}
	code, status := "", 0
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	if resp, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = resp.HTTPStatusCode()
	}
	cause := fmt.Errorf("%s: %w", doing, err)
	switch code {
	case "NoSuchKey":
		return errors.Join(errNoObject, cause)
	case "NoSuchUpload":
		return errors.Join(errNoUpload, cause)
	case "InvalidPart", "InvalidPartOrder", "EntityTooSmall":
		return errors.Join(errBadPart, cause)
	case "PreconditionFailed":
		return errors.Join(errChanged, cause)
	case "QuotaExceeded", "XMinioStorageFull", "EntityTooLarge":
		return registry.ErrStorageFull.Because(cause)
	case "NoSuchBucket", "MethodNotAllowed":
		return registry.ErrUnavailable.Because(cause)
	}
	switch status {
	case http.StatusNotFound:
		return errors.Join(errNoObject, cause)
	case http.StatusPreconditionFailed:
		return errors.Join(errChanged, cause)
	case http.StatusInsufficientStorage:
		return registry.ErrStorageFull.Because(cause)
	}
	// Everything else passes, or an operator has to see to it: credentials,
	// rights, a bucket that is gone. That is no fault of this program.
	return registry.ErrUnavailable.Because(cause)
}

// unsupported reports whether a server does not know what it was asked.
func unsupported(err error) bool {
	if api, ok := errors.AsType[smithy.APIError](err); ok && (api.ErrorCode() == "NotImplemented" || api.ErrorCode() == "InvalidArgument") {
		return true
	}
	resp, ok := errors.AsType[*awshttp.ResponseError](err)
	return ok && resp.HTTPStatusCode() == http.StatusNotImplemented
}

// conflicting reports whether a request was refused because another one for the same
// key is under way. That may be an earlier attempt of the same one.
func conflicting(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && (api.ErrorCode() == "ConditionalRequestConflict" || api.ErrorCode() == "OperationAborted")
}

// expired reports whether a server does not take credentials any more that were
// good for some time only.
func expired(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && (api.ErrorCode() == "ExpiredToken" || api.ErrorCode() == "ExpiredTokenException")
}

// isNone reports whether err says that there is no such thing.
func isNone(err error) bool { return errors.Is(err, errNoObject) || errors.Is(err, errNoUpload) }

// isOutside reports whether err says that an object has not the range asked for.
func isOutside(err error) bool {
	resp, ok := errors.AsType[*awshttp.ResponseError](err)
	return ok && resp.HTTPStatusCode() == http.StatusRequestedRangeNotSatisfiable
}
