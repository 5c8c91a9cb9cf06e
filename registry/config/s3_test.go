package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestS3 reads storageDriver maps as zot and distribution have them.
func TestS3(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       S3
		warnings   int
	}{
		{"Amazon", `"region":"eu-west-1"`, S3{Region: "eu-west-1"}, 0},
		{"a server by URL", `"regionendpoint":"http://minio:9000"`, S3{Region: "us-east-1", Endpoint: "http://minio:9000", ForcePathStyle: true}, 0},
		{"a server by host", `"regionendpoint":"minio:9000"`, S3{Region: "us-east-1", Endpoint: "https://minio:9000", ForcePathStyle: true}, 0},
		{"a server without TLS", `"regionendpoint":"minio:9000","secure":false,"forcepathstyle":false`, S3{Region: "us-east-1", Endpoint: "http://minio:9000"}, 0},
		{"the URL wins over secure", `"regionendpoint":"https://x","secure":false`, S3{Region: "us-east-1", Endpoint: "https://x", ForcePathStyle: true}, 0},
		{"words for booleans", `"region":"r","encrypt":"True","usedualstack":1,"accelerate":"0"`, S3{Region: "r", Encrypt: true, DualStack: true}, 0},
		{"credentials", `"region":"r","accesskey":"a","secretkey":"s","sessiontoken":"t"`, S3{Region: "r", AccessKey: "a", SecretKey: "s", SessionToken: "t"}, 0},
		{"a number for a key", `"region":"r","accesskey":12,"secretkeyfile":"/f"`, S3{Region: "r", AccessKey: "12", SecretKeyFile: "/f"}, 0},
		{
			"all that is kept", `"region":"r","rootdirectory":"/zot","profile":"p","encrypt":true,"keyid":"k","storageclass":"standard_ia",
				"objectacl":"private","useragent":"u","usefipsendpoint":true,"singleWriter":true,"skipverify":true,"v4auth":true`,
			S3{
				Region: "r", RootDirectory: "/zot", Profile: "p", Encrypt: true, KeyID: "k", StorageClass: "STANDARD_IA",
				ObjectACL: "private", UserAgent: "u", FIPS: true, SingleWriter: true, SkipVerify: true,
			}, 1,
		},
		{
			"all that changes nothing", `"region":"r","storageclass":"none","chunksize":"5242880","multipartcopychunksize":1,"multipartcopymaxconcurrency":2,
				"multipartcopythresholdsize":3,"loglevel":"debug","logs3apirequests":true,"logs3apiresponseheaders":{"a":"b"}`,
			S3{Region: "r"}, 7,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := `{"storage":{"storageDriver":{"name":"s3","bucket":"b",` + test.text + `}}}`
			c, warnings, err := Parse("x.json", []byte(text), noEnv)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Storage.S3()
			if err != nil {
				t.Fatal(err)
			}
			test.want.Bucket = "b"
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if len(warnings) != test.warnings {
				t.Errorf("got warnings %v, want %d", warnings, test.warnings)
			}
		})
	}
}
