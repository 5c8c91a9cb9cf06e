package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/client"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc"
)

// serve serves both services on one loopback port, as an all-in-one program does
// whose config file says services.X.listen.
func serve() (address string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	blobs := memory.NewBlobs()
	srv := rpc.NewServer(rpc.ServerOptions{})
	rpc.ServeBlobs(srv, blobs)
	rpc.ServeCatalog(srv, memory.NewCatalog(memory.CatalogOptions{}))
	go srv.Serve(l)
	return l.Addr().String(), srv.Stop
}

func Example() {
	address, stop := serve()
	defer stop()
	c, err := client.Dial(client.Options{Metadata: []string{address}, Blobstore: []string{address}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, me := context.Background(), registry.Actor{ID: "robot"}

	// Push an image without layers.
	config := "{}"
	d := registry.SHA256.FromString(config)
	if _, err := client.Upload(ctx, c.Blobs, c.Catalog, me, "team/app", strings.NewReader(config), d); err != nil {
		log.Fatal(err)
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[]}`, registry.TypeManifest, d)
	if _, err := client.PushManifest(ctx, c.Catalog, me, "team/app", registry.TypeManifest, []byte(manifest), "v1", "latest"); err != nil {
		log.Fatal(err)
	}

	for repo, err := range client.Repositories(ctx, c.Catalog, me) {
		if err != nil {
			log.Fatal(err)
		}
		for tag, err := range client.Tags(ctx, c.Catalog, me, repo) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s:%s\n", repo, tag)
		}
	}
	// Output:
	// team/app:latest
	// team/app:v1
}

// Errors are those of package registry, as they are in the services.
func ExampleDial() {
	address, stop := serve()
	defer stop()
	c, err := client.Dial(client.Options{Metadata: []string{address}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_, err = c.Catalog.Manifest(context.Background(), registry.Actor{}, "nowhere", registry.ManifestQuery{Ref: registry.Reference{Tag: "v1"}})
	fmt.Println(errors.Is(err, registry.ErrNameUnknown), err)
	// Output: true repository name not known to this registry
}
