package e2e

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
)

// killClient does one kind of operation again and again, in a repository of its
// own, until the registry is gone.
type killClient struct {
	kind  string
	base  string // URL of the repository, ".../v2/NAME"
	http  *http.Client
	model *killModel
	rnd   *mrand.Rand
	round int

	tags     []string // manifest URLs that exist, for deletes
	prepared bool     // the blobs that variants share are there
	variants int      // manifests made from them

	// A chunked upload that the kill interrupted: checked after the restart.
	upload string // URL of the session
	sent   int64  // bytes the client has sent in all
	acked  int64  // offset of the last answer
}

const imageManifest = "application/vnd.oci.image.manifest.v1+json"

// killKinds are the operations of the kill test and who does them.
var killKinds = map[string]func(*killClient) error{
	"push":     (*killClient).push,
	"chunked":  (*killClient).chunked,
	"tag move": (*killClient).move,
	"delete":   (*killClient).remove,
}

// errAnswer is an answer that no registry should give here, and errServer one
// that it may give while a part of it is gone: status 5xx.
var (
	errAnswer = errors.New("unexpected answer")
	errServer = fmt.Errorf("%w of a server in trouble", errAnswer)
)

// run works until the registry does not answer any more, or the model says that
// it is enough. It returns an error for an answer that is wrong.
func (c *killClient) run() error {
	for !c.model.enough.Load() {
		c.round++
		if err := killKinds[c.kind](c); err != nil {
			if errors.Is(err, errAnswer) {
				return err
			}
			return nil
		}
	}
	return nil
}

func (c *killClient) randomBlob(most int) []byte {
	b := make([]byte, 1+c.rnd.IntN(most))
	rand.Read(b)
	return b
}

// push pushes an image of one layer under a new tag.
func (c *killClient) push() error {
	layer := c.randomBlob(64 << 10)
	config := []byte(fmt.Sprintf(`{"n":%d,"by":%q}`, c.round, c.base))
	manifest := imageOf(config, "", layer)
	tag := fmt.Sprintf("%s/manifests/t%d", c.base, c.round)
	done := c.model.begin(c.kind, map[string]string{tag: digest.FromBytes(manifest).String()})
	err := c.pushImage(tag, manifest, config, layer)
	done(err == nil)
	return err
}

func (c *killClient) pushImage(tag string, manifest []byte, blobs ...[]byte) error {
	for _, b := range blobs {
		if err := c.blob(b); err != nil {
			return err
		}
	}
	return c.put(tag, manifest)
}

// chunked pushes a layer in three chunks, then an image that has it.
func (c *killClient) chunked() error {
	layer := c.randomBlob(256 << 10)
	config := []byte("{}")
	manifest := imageOf(config, "", layer)
	tag := fmt.Sprintf("%s/manifests/c%d", c.base, c.round)
	done := c.model.begin(c.kind, map[string]string{tag: digest.FromBytes(manifest).String()})
	err := c.chunks(layer)
	if err == nil {
		err = c.pushImage(tag, manifest, config)
	}
	done(err == nil)
	return err
}

func (c *killClient) chunks(layer []byte) error {
	c.upload, c.sent, c.acked = "", 0, 0
	location, err := c.start()
	if err != nil {
		return err
	}
	c.upload = location
	third := len(layer)/3 + 1
	for at := 0; at < len(layer); at += third {
		chunk := layer[at:min(at+third, len(layer))]
		c.sent = int64(at + len(chunk))
		resp, err := c.do(http.MethodPatch, c.upload, chunk, http.StatusAccepted, map[string]string{
			"Content-Range": fmt.Sprintf("%d-%d", at, at+len(chunk)-1),
		})
		if err != nil {
			return err
		}
		c.acked = c.sent
		c.upload = c.resolve(resp.Header.Get("Location"))
	}
	upload := c.upload
	if _, err := c.do(http.MethodPut, withDigest(upload, layer), nil, http.StatusCreated, nil); err != nil {
		return err
	}
	c.upload = ""
	return nil
}

// resume checks a session that a kill interrupted (I9): the offset it reports
// is one that was sent, and it can be continued to a blob with the right digest.
func (c *killClient) resume() error {
	if c.upload == "" {
		return nil
	}
	upload := c.upload
	c.upload = ""
	resp, err := c.do(http.MethodGet, upload, nil, 0, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusNotFound {
		return nil // the PUT had gone through, only its answer was lost; or nothing survived
	}
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%w: upload status: %s", errAnswer, resp.Status)
	}
	var from, to int64
	if _, err := fmt.Sscanf(resp.Header.Get("Range"), "%d-%d", &from, &to); err != nil {
		return fmt.Errorf("%w: upload status has Range %q", errAnswer, resp.Header.Get("Range"))
	}
	if to > c.sent {
		return fmt.Errorf("%w: %d bytes were sent, but the upload is said to end at %d", errAnswer, c.sent, to)
	}
	return nil
}

// move points one tag at one image after the other. They differ in an annotation
// only, so that nearly all of the time goes into the tag.
func (c *killClient) move() error {
	manifest, err := c.variant()
	if err != nil {
		return err
	}
	tag := c.base + "/manifests/moving"
	done := c.model.begin(c.kind, map[string]string{tag: digest.FromBytes(manifest).String()})
	err = c.put(tag, manifest)
	done(err == nil)
	return err
}

// variant returns a manifest that was not used before and whose blobs are there.
func (c *killClient) variant() ([]byte, error) {
	config := []byte("{}")
	if !c.prepared {
		if err := c.blob(config); err != nil {
			return nil, err
		}
		c.prepared = true
	}
	c.variants++
	return imageOf(config, fmt.Sprintf("%d", c.variants)), nil
}

// remove deletes tags and manifests that it has pushed before.
func (c *killClient) remove() error {
	if len(c.tags) == 0 {
		for range 16 {
			manifest, err := c.variant()
			if err != nil {
				return err
			}
			tag := fmt.Sprintf("%s/manifests/d%d", c.base, c.variants)
			done := c.model.begin("setup", map[string]string{tag: digest.FromBytes(manifest).String()})
			err = c.put(tag, manifest)
			done(err == nil)
			if err != nil {
				return err
			}
			c.tags = append(c.tags, tag)
		}
	}
	tag := c.tags[0]
	target, values := tag, map[string]string{tag: ""}
	if c.rnd.IntN(2) == 0 { // by digest: the tag goes with it
		d, err := manifestAt(c.http, tag)
		if err != nil || d == "" {
			c.tags = c.tags[1:]
			return err
		}
		target = c.base + "/manifests/" + d
		c.model.known(target, d)
		values[target] = ""
	}
	done := c.model.begin(c.kind, values)
	resp, err := c.do(http.MethodDelete, target, nil, 0, nil)
	// 404: a delete whose answer a kill had swallowed.
	ok := err == nil && (resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusNotFound)
	done(ok)
	if err != nil {
		return err
	}
	c.tags = c.tags[1:]
	if !ok {
		return fmt.Errorf("%w: DELETE %s: %s", errAnswer, target, resp.Status)
	}
	return nil
}

// blob pushes a blob with one PUT.
func (c *killClient) blob(b []byte) error {
	location, err := c.start()
	if err != nil {
		return err
	}
	_, err = c.do(http.MethodPut, withDigest(location, b), b, http.StatusCreated, nil)
	return err
}

func (c *killClient) start() (location string, err error) {
	resp, err := c.do(http.MethodPost, c.base+"/blobs/uploads/", nil, http.StatusAccepted, nil)
	if err != nil {
		return "", err
	}
	return c.resolve(resp.Header.Get("Location")), nil
}

func (c *killClient) put(tag string, manifest []byte) error {
	_, err := c.do(http.MethodPut, tag, manifest, http.StatusCreated, map[string]string{"Content-Type": imageManifest})
	return err
}

// do makes a request. A status other than want (0: any) is an error.
func (c *killClient) do(method, target string, body []byte, want int, header map[string]string) (*http.Response, error) {
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	_, err = text.ReadFrom(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want && (want != 0 || resp.StatusCode >= 500) {
		kind := errAnswer
		if resp.StatusCode >= 500 {
			kind = errServer
		}
		return nil, fmt.Errorf("%w: %s %s: %s: %s", kind, method, target, resp.Status, text.String())
	}
	return resp, nil
}

func (c *killClient) resolve(location string) string {
	base, err := url.Parse(c.base)
	if err != nil {
		return location
	}
	u, err := base.Parse(location)
	if err != nil {
		return location
	}
	return u.String()
}

func withDigest(location string, b []byte) string {
	sep := "?"
	if strings.Contains(location, "?") {
		sep = "&"
	}
	return location + sep + "digest=" + digest.FromBytes(b).String()
}

// imageOf returns the manifest of an image; note makes it differ from others.
func imageOf(config []byte, note string, layers ...[]byte) []byte {
	var list []string
	for _, l := range layers {
		list = append(list, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`, digest.FromBytes(l), len(l)))
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[%s],"annotations":{"note":%q}}`,
		imageManifest, digest.FromBytes(config), len(config), strings.Join(list, ","), note)
}
