//go:build bench

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// A benchClient speaks to one repository. It may be used by many goroutines.
type benchClient struct {
	base string // ".../v2/NAME"
	http *http.Client
}

// newHTTPClient makes a client that keeps its connections and never
// decompresses.
func newHTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DisableCompression:  true,
		ReadBufferSize:      64 << 10,
	}}
}

func newBenchClient(base, repo string) *benchClient {
	return &benchClient{base: base + "/v2/" + repo, http: newHTTPClient()}
}

// in is the same client for another repository.
func (c *benchClient) in(base, repo string) *benchClient {
	return &benchClient{base: base + "/v2/" + repo, http: c.http}
}

// do sends a request, reads the answer to its end and returns its header.
func (c *benchClient) do(req *http.Request, want int) (http.Header, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s, want %d: %s", req.Method, req.URL, resp.Status, want, body)
	}
	return resp.Header, nil
}

// send sends data, which may be nil, to an absolute URL.
func (c *benchClient) send(method, to string, data []byte, mediaType string, want int) (http.Header, error) {
	req, err := http.NewRequest(method, to, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	return c.do(req, want)
}

// begin starts an upload and returns its URL.
func (c *benchClient) begin() (string, error) {
	header, err := c.send(http.MethodPost, c.base+"/blobs/uploads/", nil, "", http.StatusAccepted)
	if err != nil {
		return "", err
	}
	return c.location(header)
}

// location resolves the Location of an answer.
func (c *benchClient) location(header http.Header) (string, error) {
	base, err := url.Parse(c.base)
	if err != nil {
		return "", err
	}
	to, err := base.Parse(header.Get("Location"))
	if err != nil {
		return "", err
	}
	return to.String(), nil
}

// closing is the URL that ends an upload.
func closing(upload string, d digest.Digest) string {
	mark := "?"
	if strings.Contains(upload, "?") {
		mark = "&"
	}
	return upload + mark + "digest=" + url.QueryEscape(d.String())
}

// blob pushes a blob by POST and PUT.
func (c *benchClient) blob(data []byte) error {
	upload, err := c.begin()
	if err != nil {
		return err
	}
	_, err = c.send(http.MethodPut, closing(upload, digest.FromBytes(data)), data, "application/octet-stream", http.StatusCreated)
	return err
}

// mount makes a blob of another repository known in this one.
func (c *benchClient) mount(d digest.Digest, from string) error {
	to := c.base + "/blobs/uploads/?mount=" + url.QueryEscape(d.String()) + "&from=" + url.QueryEscape(from)
	_, err := c.send(http.MethodPost, to, nil, "", http.StatusCreated)
	return err
}

// manifest pushes an image manifest under a tag or digest.
func (c *benchClient) manifest(reference string, data []byte) error {
	_, err := c.send(http.MethodPut, c.base+"/manifests/"+reference, data, manifestType, http.StatusCreated)
	return err
}

// image pushes an image of one layer under a tag.
func (c *benchClient) image(tag string, layer, config, manifest []byte) error {
	for _, data := range [][]byte{layer, config} {
		if err := c.blob(data); err != nil {
			return err
		}
	}
	return c.manifest(tag, manifest)
}

// get reads a URL to its end, with a large buffer so that the client takes
// little of the machine that it shares with the server, and returns the size.
func (c *benchClient) get(from string) (int64, error) {
	resp, err := c.http.Get(from)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s: %s", from, resp.Status)
	}
	// io.Discard would read 8 KiB at a time.
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 256<<10))
}

// inParallel calls do for 0 … total-1 from a number of goroutines and stops
// handing out work after the first error.
func inParallel(workers, total int, do func(i int) error) error {
	var next atomic.Int64
	errs := make([]error, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= total {
					return
				}
				if errs[w] = do(i); errs[w] != nil {
					next.Store(int64(total))
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
