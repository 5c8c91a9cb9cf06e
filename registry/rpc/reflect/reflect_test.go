package reflect

import (
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc"
)

// serve serves a catalog on loopback, and returns a client of its reflection.
func serve(t *testing.T, o rpc.ServerOptions) grpc.BidiStreamingClient[reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse] {
	t.Helper()
	address := make(chan string, 1)
	o.Log = addressLog(address)
	u, err := rpc.CatalogUnit(t.Context(), "127.0.0.1:0", memory.NewCatalog(memory.CatalogOptions{}), o)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- u.Run() }()
	conn, err := rpc.Dial([]string{<-address}, rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		if err := u.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		<-ended
	})
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func ask(t *testing.T, o rpc.ServerOptions, q *reflectionv1.ServerReflectionRequest) (*reflectionv1.ServerReflectionResponse, error) {
	t.Helper()
	stream := serve(t, o)
	// A stream that has ended already says why to Recv.
	if err := stream.Send(q); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	defer stream.CloseSend()
	return stream.Recv()
}

func TestOffUnlessAskedFor(t *testing.T) {
	_, err := ask(t, rpc.ServerOptions{}, &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}

func TestServices(t *testing.T) {
	answer, err := ask(t, rpc.ServerOptions{Reflect: Register}, &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range answer.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	want := []string{"berth.metadata.v1.AccessService", "berth.metadata.v1.AnnouncementService", "berth.metadata.v1.AuditService", "berth.metadata.v1.CacheService", "berth.metadata.v1.CatalogService", "berth.metadata.v1.CollectorService", "berth.metadata.v1.ExportService", "berth.metadata.v1.IdentitiesService", "berth.metadata.v1.LimitsService", "berth.metadata.v1.RetentionService", "berth.metadata.v1.ScrubService", "berth.metadata.v1.SearchService", "berth.metadata.v1.TakeOverService", "berth.metadata.v1.TrustService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"}
	if slices.Sort(names); !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}

// TestDescriptors: a client gets the file that declares a method.
func TestDescriptors(t *testing.T) {
	answer, err := ask(t, rpc.ServerOptions{Reflect: Register}, &reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "berth.metadata.v1.CatalogService.ListTags"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, b := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		var f descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(b, &f); err != nil {
			t.Fatal(err)
		}
		names = append(names, f.GetName())
	}
	if !slices.Contains(names, "berth/metadata/v1/metadata.proto") {
		t.Errorf("got %q", names)
	}
}
