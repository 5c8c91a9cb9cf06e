package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync/atomic"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

// Tree reads the image layouts that another registry keeps in a bucket, each below a
// prefix of its repository's name. It writes nothing. Methods are for one goroutine.
type Tree struct {
	ctx    context.Context // bounds all requests
	client *client
	root   string            // "" or a prefix that ends in a slash
	twins  map[string]string // see twin; nil before it was needed
}

// OpenTree returns the tree below the root directory of a bucket.
func OpenTree(ctx context.Context, p config.Pool) (*Tree, error) {
	cfg, err := p.S3()
	if err != nil {
		return nil, err
	}
	api, err := newAPI(ctx, cfg, Options{}, new(atomic.Pointer[meters]))
	if err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", cfg.Bucket, err)
	}
	t := &Tree{ctx: ctx, client: &client{api: api, bucket: cfg.Bucket}}
	if root := strings.Trim(path.Clean("/"+cfg.RootDirectory), "/"); root != "" {
		t.root = root + "/"
	}
	if err := t.client.check(ctx); err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", cfg.Bucket, err)
	}
	return t, nil
}

// Close ends idle connections.
func (t *Tree) Close() error {
	t.client.idle()
	return nil
}

// Open returns the object of a name below the root and its size, or
// [fs.ErrNotExist]. An object of no bytes that stands for a blob is the same blob of
// another repository: so zot stores in a bucket what several repositories have.
func (t *Tree) Open(name string) (io.ReadCloser, int64, error) {
	r, size, err := t.open(t.root + name)
	if err != nil || size > 0 {
		return r, size, err
	}
	blob, d, ok := blobKey(name)
	if !ok || d.Algorithm().FromBytes(nil) == d {
		return r, size, nil
	}
	r.Close()
	key, err := t.twin(blob)
	if err != nil {
		return nil, 0, err
	}
	return t.open(key)
}

func (t *Tree) open(key string) (io.ReadCloser, int64, error) {
	h, err := t.client.head(t.ctx, key)
	if errors.Is(err, errNoObject) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, 0, err
	}
	if h.size == 0 {
		return io.NopCloser(strings.NewReader("")), 0, nil
	}
	c, err := t.client.open(t.ctx, key, h.size, 0, h.size)
	if errors.Is(err, errNoObject) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, 0, err
	}
	return c, h.size, nil
}

// blobKey returns the part of a name that the blobs of all repositories have in
// common, and the digest that it says.
func blobKey(name string) (string, registry.Digest, bool) {
	i := strings.LastIndex("/"+name, "/blobs/")
	if i < 0 {
		return "", "", false
	}
	blob := name[i:]
	d, err := registry.ParseDigest(strings.Replace(strings.TrimPrefix(blob, "blobs/"), "/", ":", 1))
	return blob, d, err == nil
}

// maxTwins is how many blobs may be in several repositories.
const maxTwins = 4 << 20

// twin returns the key of an object that has the bytes of a blob, or
// [fs.ErrNotExist]. All of the tree is listed twice at the first call, so that only
// blobs that are in several repositories need memory.
func (t *Tree) twin(blob string) (string, error) {
	if t.twins == nil {
		twins := make(map[string]string)
		err := t.each("", func(o listed) (string, error) {
			if name, _, ok := blobKey(strings.TrimPrefix(o.key, t.root)); ok && o.size == 0 {
				twins[name] = ""
			}
			if len(twins) > maxTwins {
				return "", registry.ErrTooLarge.With("more than %d blobs are in several repositories", maxTwins)
			}
			return "", nil
		})
		if err == nil {
			err = t.each("", func(o listed) (string, error) {
				name, _, ok := blobKey(strings.TrimPrefix(o.key, t.root))
				if _, wanted := twins[name]; ok && wanted && o.size > 0 {
					twins[name] = o.key
				}
				return "", nil
			})
		}
		if err != nil {
			return "", err
		}
		t.twins = twins
	}
	if key := t.twins[blob]; key != "" {
		return key, nil
	}
	return "", fmt.Errorf("%s has no bytes in any repository: %w", blob, fs.ErrNotExist)
}

// each calls f for all objects of the tree, in the order of their keys. f may return
// a key to go on behind of.
func (t *Tree) each(after string, f func(listed) (string, error)) error {
	for {
		page, more, err := t.client.list(t.ctx, t.root, after, 1000)
		if err != nil {
			return err
		}
		skip := ""
		for _, o := range page {
			if o.key <= skip {
				continue
			}
			if skip, err = f(o); err != nil {
				return err
			}
			after = max(o.key, skip)
		}
		if !more || len(page) == 0 {
			return nil
		}
	}
}

// DirsWith returns the names below the root that have an object of a name below
// them. Blobs are passed over.
func (t *Tree) DirsWith(name string) ([]string, error) {
	var found []string
	err := t.each("", func(o listed) (string, error) {
		rel := strings.TrimPrefix(o.key, t.root)
		for _, alg := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
			if dir, _, ok := strings.Cut("/"+rel, "/blobs/"+string(alg)+"/"); ok {
				return t.root + strings.TrimPrefix(dir+"/blobs/", "/") + string(alg) + "0", nil // "0" comes behind "/"
			}
		}
		dir, base := path.Split(rel)
		if base == name && !strings.HasPrefix(rel, ".") {
			found = append(found, strings.TrimSuffix(dir, "/"))
		}
		return "", nil
	})
	return found, err
}
