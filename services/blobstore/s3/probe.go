package s3

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// errUnconditional is what a start without conditional writes ends with.
var errUnconditional = errors.New(`the server ignores or refuses conditional writes (If-Match, If-None-Match), which keep two processes from continuing one upload: ` +
	`use a server that has them, or set "singleWriter": true in storageDriver and never run more than one blobstore on this bucket`)

// probe finds out what the bucket can do: whether it is there, may be written
// to and keeps the conditions of writes. With singleWriter it need not.
func (d *Driver) probe(ctx context.Context) error {
	if err := d.client.check(ctx); err != nil {
		return fmt.Errorf("the bucket can't be reached: %w", err)
	}
	if err := d.notForeign(ctx); err != nil {
		return err
	}
	key := d.keys.home + "probe/" + newNonce()
	defer func() {
		// What stays behind is 5 bytes.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = d.client.remove(ctx, key)
	}()
	etag, err := d.client.write(ctx, key, strings.NewReader("probe"), 5, condition{absent: !d.singleWriter})
	if err != nil {
		if !d.singleWriter && unsupported(err) {
			return errors.Join(errUnconditional, err)
		}
		return fmt.Errorf("the bucket can't be written to: %w", err)
	}
	if d.singleWriter {
		return nil
	}
	for _, step := range []struct {
		cond condition
		ok   bool
	}{
		{condition{absent: true}, false},
		{condition{etag: `"00000000000000000000000000000000"`}, false},
		{condition{etag: etag}, true},
	} {
		_, err := d.client.write(ctx, key, strings.NewReader("again"), 5, step.cond)
		switch {
		case err == nil && !step.ok:
			return errUnconditional
		case errors.Is(err, errChanged) && !step.ok, err == nil:
		case errors.Is(err, errChanged), errors.Is(err, errNoObject), unsupported(err):
			return errors.Join(errUnconditional, err)
		default:
			return fmt.Errorf("the bucket can't be written to: %w", err)
		}
	}
	return nil
}

// maxForeign bounds how many names notForeign looks at.
const maxForeign = 1000

// notForeign returns an error if another registry keeps its content below the
// root directory: repositories of zot are OCI image layouts.
func (d *Driver) notForeign(ctx context.Context) error {
	root := strings.TrimSuffix(d.keys.home, ".berth/")
	all, _, err := d.client.list(ctx, root, d.keys.home+"~", maxForeign)
	if err != nil {
		return fmt.Errorf("the bucket can't be listed: %w", err)
	}
	for _, o := range all {
		if strings.HasSuffix(o.key, "/oci-layout") || strings.HasSuffix(o.key, "/index.json") {
			return fmt.Errorf("it holds another registry's content (%s), which this version can't take over: choose another rootdirectory", o.key)
		}
	}
	return nil
}
