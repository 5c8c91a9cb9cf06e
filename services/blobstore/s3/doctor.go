package s3

import (
	"context"
	"net/http"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/doctor"
)

// Examine returns a check of a pool in a bucket: that it can be opened, with the
// probe of each start (it writes an object and removes it), and that the server's
// clock agrees with ours, without which no signature is good. key is that of the
// config file.
func Examine(key string, p config.Pool) doctor.Check {
	return func(ctx context.Context, r *doctor.Report) {
		cfg, err := p.S3()
		if err != nil {
			r.Fail(key, "mend the config file", "%v", err)
			return
		}
		if cfg.Endpoint != "" {
			client := &http.Client{
				Transport:     newTransport(cfg.SkipVerify, nil),
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}
			defer client.CloseIdleConnections()
			doctor.HTTPSkew(ctx, r, key, cfg.Endpoint, client)
		}
		d, err := Open(ctx, cfg, Options{})
		if err != nil {
			r.Fail(key, "see that the bucket exists, that these credentials may read, list, write and delete in it, and that the server keeps conditional writes", "%v", err)
			return
		}
		defer d.Close()
		r.OK(key, "bucket %s can be read and written", cfg.Bucket)
		if d.singleWriter {
			r.Warn(key, "take singleWriter out if the server has conditional writes", "nothing keeps two blobstores from continuing one upload")
		}
	}
}
