package s3

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry/config"
)

// sparse answers lists: the first pages have no names, and say that there are more.
type sparse struct{ empty, asked int }

func (s *sparse) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked++
	body := `<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>further</NextContinuationToken></ListBucketResult>`
	if s.asked > 1 && r.URL.Query().Get("continuation-token") != "further" {
		body = `<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated></ListBucketResult>`
	} else if s.asked > s.empty {
		body = `<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>p/k</Key><Size>3</Size></Contents></ListBucketResult>`
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/xml"}}, Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

// A page of a list may be empty and not the last one, as where many names that were
// removed are passed over. It must not pass for the end.
func TestListWithEmptyPages(t *testing.T) {
	for _, empty := range []int{0, 1, 3} {
		server := &sparse{empty: empty}
		cfg := config.S3{Bucket: "b", Region: "r", Endpoint: "http://s3.invalid", ForcePathStyle: true, AccessKey: "a", SecretKey: "s"}
		api, err := newAPI(t.Context(), cfg, Options{Transport: server}, new(atomic.Pointer[meters]))
		if err != nil {
			t.Fatal(err)
		}
		c := &client{api: api, bucket: cfg.Bucket}
		page, more, err := c.list(t.Context(), "p/", "", 10)
		if err != nil || more || len(page) != 1 || page[0].key != "p/k" {
			t.Errorf("%d empty pages: got %v, more %v, %v", empty, page, more, err)
		}
	}
}
