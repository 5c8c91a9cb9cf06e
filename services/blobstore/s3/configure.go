package s3

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore"
)

// OpenPool is the [blobstore.OpenPool] of pools in a bucket.
func OpenPool(ctx context.Context, p config.Pool) (blobstore.Driver, error) {
	cfg, err := p.S3()
	if err != nil {
		return nil, err
	}
	d, err := Open(ctx, cfg, Options{})
	if err != nil {
		return nil, err // not d: a nil *Driver is no nil Driver
	}
	return d, nil
}

// Options are choices for tests. The zero value is fit for use.
type Options struct {
	// Now returns the wall time. nil means time.Now.
	Now func() time.Time
	// Transport sends requests. nil means HTTP as the configuration says.
	Transport http.RoundTripper
	// Idle is for how long an attempt may move no byte. 0 means 30 s.
	Idle time.Duration
	// Log is for what nobody is told. nil means the default logger.
	Log *slog.Logger
}

// Open returns the Driver of a bucket, after a few requests that find out
// whether it is fit.
func Open(ctx context.Context, cfg config.S3, o Options) (*Driver, error) {
	counting := new(atomic.Pointer[meters])
	api, err := newAPI(ctx, cfg, o, counting)
	if err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", cfg.Bucket, err)
	}
	d := &Driver{
		public:       s3.NewPresignClient(api, func(p *s3.PresignOptions) { p.ClientOptions = publicEndpoint(cfg) }),
		client:       &client{api: api, bucket: cfg.Bucket, put: newPutOptions(cfg)},
		keys:         newKeys(cfg.Bucket, cfg.RootDirectory),
		memory:       newMemory(),
		singleWriter: cfg.SingleWriter,
		now:          o.Now,
		meters:       counting,
		log:          o.Log,
	}
	if d.now == nil {
		d.now = time.Now
	}
	if d.log == nil {
		d.log = slog.Default()
	}
	if err := d.probe(ctx); err != nil {
		d.client.idle()
		return nil, fmt.Errorf("opening bucket %s: %w", cfg.Bucket, err)
	}
	return d, nil
}

func newPutOptions(cfg config.S3) putOptions {
	o := putOptions{keyID: cfg.KeyID, class: types.StorageClass(cfg.StorageClass), acl: types.ObjectCannedACL(cfg.ObjectACL)}
	switch {
	case cfg.Encrypt && cfg.KeyID != "":
		o.encryption = types.ServerSideEncryptionAwsKms
	case cfg.Encrypt:
		o.encryption = types.ServerSideEncryptionAes256
	}
	return o
}

// newAPI returns a client of the SDK. Credentials are those of cfg, or else come
// from where the SDK looks for them: environment, shared profile, web identity,
// container and instance metadata.
func newAPI(ctx context.Context, cfg config.S3, o Options, meters *atomic.Pointer[meters]) (*s3.Client, error) {
	with := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithRegion(cfg.Region),
		awsconfig.WithLogger(logging.Nop{}),
	}
	if cfg.AccessKey != "" {
		secret, err := config.ReadSecret(cfg.SecretKey, cfg.SecretKeyFile)
		if err != nil {
			return nil, err
		}
		with = append(with, awsconfig.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(string(cfg.AccessKey), string(secret), string(cfg.SessionToken))))
	}
	if cfg.Profile != "" {
		with = append(with, awsconfig.WithSharedConfigProfile(cfg.Profile))
	}
	loaded, err := awsconfig.LoadDefaultConfig(ctx, with...)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	base := o.Transport
	if base == nil {
		base = newTransport(cfg.SkipVerify, rootCAs(loaded))
	}
	return s3.NewFromConfig(loaded, func(so *s3.Options) {
		so.Retryer = newRetryer(loaded.Credentials)
		so.HTTPClient = &http.Client{Transport: transport{base: base, idle: cmp.Or(o.Idle, idleLimit), meters: meters}}
		so.UsePathStyle = cfg.ForcePathStyle
		if cfg.Endpoint != "" {
			so.BaseEndpoint = &cfg.Endpoint
		}
		so.UseAccelerate = cfg.Accelerate
		if cfg.DualStack {
			so.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateEnabled
		}
		if cfg.FIPS {
			so.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled
		}
		if cfg.UserAgent != "" {
			so.AppID = cfg.UserAgent
		}
		// Servers that know no checksums but their own refuse requests that have
		// one. Bodies are signed, or TLS keeps them whole.
		so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	}), nil
}

// publicEndpoint replaces the endpoint by the one that clients can reach.
func publicEndpoint(cfg config.S3) []func(*s3.Options) {
	if cfg.RedirectEndpoint == "" {
		return nil
	}
	return []func(*s3.Options){func(o *s3.Options) { o.BaseEndpoint = &cfg.RedirectEndpoint }}
}

// rootCAs returns the certificates of AWS_CA_BUNDLE or of the shared profile,
// nil if the system's are to be used.
func rootCAs(loaded aws.Config) *x509.CertPool {
	c, ok := loaded.HTTPClient.(*awshttp.BuildableClient)
	if !ok || c.GetTransport().TLSClientConfig == nil {
		return nil
	}
	return c.GetTransport().TLSClientConfig.RootCAs
}
