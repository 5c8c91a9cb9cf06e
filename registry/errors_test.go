package registry_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

var sentinels = []*registry.Error{
	registry.ErrInternal, registry.ErrBlobUnknown, registry.ErrUploadInvalid, registry.ErrUploadUnknown,
	registry.ErrDigestInvalid, registry.ErrManifestBlobUnknown, registry.ErrManifestInvalid, registry.ErrManifestUnknown,
	registry.ErrMediaTypeUnsupported, registry.ErrNameInvalid, registry.ErrNameUnknown, registry.ErrTagInvalid,
	registry.ErrSizeInvalid, registry.ErrPageInvalid, registry.ErrParameterInvalid, registry.ErrUnauthorized, registry.ErrDenied, registry.ErrUnsupported,
	registry.ErrEndpointUnknown, registry.ErrInUse, registry.ErrManifestCollision, registry.ErrPreconditionFailed, registry.ErrRangeInvalid,
	registry.ErrTooManyRanges, registry.ErrTooLarge, registry.ErrTooManyTags, registry.ErrURLTooLong, registry.ErrStalled,
	registry.ErrTooManyRequests, registry.ErrUnavailable, registry.ErrStorageFull, registry.ErrCanceled,
}

// constants returns the names of the constants of type Code, and of the
// variables that start with Err, as errors.go has them.
func constants(t *testing.T) (codes, errs []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		decl, ok := n.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST && decl.Tok != token.VAR {
			return true
		}
		first, ok := decl.Specs[0].(*ast.ValueSpec)
		typ, isIdent := first.Type.(*ast.Ident)
		for _, s := range decl.Specs {
			name := s.(*ast.ValueSpec).Names[0].Name
			switch {
			case ok && isIdent && typ.Name == "Code" && ast.IsExported(name):
				codes = append(codes, name)
			case decl.Tok == token.VAR && strings.HasPrefix(name, "Err"):
				errs = append(errs, name)
			}
		}
		return false
	})
	return codes, errs
}

func TestCodes(t *testing.T) {
	names, errs := constants(t)
	all := registry.Codes()
	if len(all) != len(names) || len(sentinels) != len(names) || len(errs) != len(names) {
		t.Fatalf("%d codes in Codes, %d constants, %d variables, %d sentinels in this test", len(all), len(names), len(errs), len(sentinels))
	}
	upper := regexp.MustCompile(`^[A-Z]+(_[A-Z]+)*$`)
	for i, c := range all {
		if c.String() != names[i] || "Err"+c.String() != errs[i] {
			t.Errorf("code %d is %s and has the name %s and the sentinel %s", i, names[i], c, errs[i])
		}
		if !upper.MatchString(c.OCI()) {
			t.Errorf("%s: OCI string %q", c, c.OCI())
		}
		if c.HTTP() < 400 || c.HTTP() > 599 {
			t.Errorf("%s: HTTP status %d", c, c.HTTP())
		}
		if (c.HTTP() == 500) != (c.Kind() == registry.Fault) || c.Kind() > registry.Gone {
			t.Errorf("%s: HTTP status %d and kind %d", c, c.HTTP(), c.Kind())
		}
		if c.Text() == "" || c.Text() != strings.TrimSpace(c.Text()) || strings.HasSuffix(c.Text(), ".") {
			t.Errorf("%s: text %q", c, c.Text())
		}
		if n := slices.IndexFunc(sentinels, func(e *registry.Error) bool { return e.Code == c }); n != i {
			t.Errorf("%s: its sentinel is number %d, want %d", c, n, i)
		}
	}
	if c := registry.Code(len(all)); c.String() != "Internal" || c.HTTP() != 500 || c.Kind() != registry.Fault {
		t.Errorf("a code that is not in the table is %s, %d", c, c.HTTP())
	}
}

// The strings a client acts on come from the distribution-spec, "Error Codes".
func TestOCICodes(t *testing.T) {
	for c, want := range map[registry.Code]string{
		registry.BlobUnknown:         "BLOB_UNKNOWN 404",
		registry.UploadInvalid:       "BLOB_UPLOAD_INVALID 400",
		registry.UploadUnknown:       "BLOB_UPLOAD_UNKNOWN 404",
		registry.DigestInvalid:       "DIGEST_INVALID 400",
		registry.ManifestBlobUnknown: "MANIFEST_BLOB_UNKNOWN 400",
		registry.ManifestInvalid:     "MANIFEST_INVALID 400",
		registry.ManifestUnknown:     "MANIFEST_UNKNOWN 404",
		registry.NameInvalid:         "NAME_INVALID 400",
		registry.NameUnknown:         "NAME_UNKNOWN 404",
		registry.SizeInvalid:         "SIZE_INVALID 400",
		registry.Unauthorized:        "UNAUTHORIZED 401",
		registry.Denied:              "DENIED 403",
		registry.Unsupported:         "UNSUPPORTED 405",
		registry.TooManyRequests:     "TOOMANYREQUESTS 429",
		registry.RangeInvalid:        "RANGE_INVALID 416",
		registry.TooLarge:            "SIZE_INVALID 413",
		registry.TooManyTags:         "MANIFEST_INVALID 414",
		registry.EndpointUnknown:     "UNSUPPORTED 404",
		registry.ParameterInvalid:    "UNSUPPORTED 400",
		registry.TooManyRanges:       "RANGE_INVALID 400",
		registry.URLTooLong:          "SIZE_INVALID 414",
		registry.Stalled:             "BLOB_UPLOAD_INVALID 408",
		registry.ManifestCollision:   "MANIFEST_INVALID 409",
		registry.PreconditionFailed:  "PRECONDITION_FAILED 412",
		registry.StorageFull:         "STORAGE_FULL 507",
		registry.Internal:            "UNKNOWN 500",
	} {
		if got := fmt.Sprint(c.OCI(), " ", c.HTTP()); got != want {
			t.Errorf("%s: got %s, want %s", c, got, want)
		}
	}
}

func TestErrorIs(t *testing.T) {
	for _, e := range sentinels {
		for _, f := range sentinels {
			special := fmt.Errorf("doing this: %w", e.With("no %d", 7).Detailed([]string{"x"}).Because(io.ErrUnexpectedEOF))
			if got := errors.Is(special, f); got != (e == f) {
				t.Errorf("errors.Is(%s, %s) is %t", e.Code, f.Code, got)
			}
			if !errors.Is(special, io.ErrUnexpectedEOF) {
				t.Errorf("%s hides its cause", e.Code)
			}
		}
		// A sentinel never changes.
		if e.Message != "" || e.Detail != nil || e.Err != nil {
			t.Errorf("the sentinel of %s became %+v", e.Code, *e)
		}
	}
	if errors.Is(io.EOF, registry.ErrInternal) || errors.Is(registry.ErrInternal, io.EOF) {
		t.Error("io.EOF is no registry.Error")
	}
}

func TestErrorTexts(t *testing.T) {
	secret := errors.New("password=hunter2")
	for _, e := range []struct {
		err           *registry.Error
		client, inLog string
	}{
		{registry.ErrBlobUnknown, "blob unknown to registry", "blob unknown to registry"},
		{registry.ErrBlobUnknown.With("no %q", "x"), `no "x"`, `no "x"`},
		{registry.ErrInternal.Because(secret), "internal error", "internal error: password=hunter2"},
		{registry.ErrDenied.With("not you").Because(secret), "not you", "not you: password=hunter2"},
	} {
		if got := e.err.Text(); got != e.client {
			t.Errorf("Text: got %q, want %q", got, e.client)
		}
		if got := e.err.Error(); got != e.inLog {
			t.Errorf("Error: got %q, want %q", got, e.inLog)
		}
	}
}

func TestAsError(t *testing.T) {
	if got := registry.AsError(nil); got != nil {
		t.Errorf("AsError(nil): got %v", got)
	}
	if got := registry.AsError(io.EOF); got.Code != registry.Internal || !errors.Is(got, io.EOF) {
		t.Errorf("AsError(EOF): got %v, want Internal because of it", got)
	}
	inner := registry.ErrTooLarge.With("this big")
	if got := registry.AsError(fmt.Errorf("pushing: %w", inner)); got != inner {
		t.Errorf("AsError of a wrapped error: got %v, want %v", got, inner)
	}
}

func TestFinding(t *testing.T) {
	for want, f := range map[string]registry.Finding{
		"I3: lost":                             {Invariant: "I3", Problem: "lost"},
		"I3 repository a/b digest d: lost":     {Invariant: "I3", Repo: "a/b", Digest: "d", Problem: "lost"},
		"I12 digest d: bytes that nobody uses": {Invariant: "I12", Digest: "d", Problem: "bytes that nobody uses"},
	} {
		if got := f.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
