package main

import (
	"bytes"
	"compress/gzip"
	"context"

	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/x/authz"
	gogoproto "github.com/cosmos/gogoproto/proto"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// depositAuthorization has the name and the fields of Akash's, so that authz checks, keeps and tells it. Spending it
// needs Akash's modules, which are not here.
type depositAuthorization struct{ raw []byte }

var _ authz.Authorization = &depositAuthorization{}

const authorizationName = "akash.escrow.v1.DepositAuthorization"

var authorizationFile = describeAuthorization()

func init() {
	gogoproto.RegisterFile("akash/escrow/v1/authz.proto", authorizationFile)
	gogoproto.RegisterType((*depositAuthorization)(nil), authorizationName)
}

func registerAuthorization(registry codectypes.InterfaceRegistry) {
	registry.RegisterImplementations((*authz.Authorization)(nil), &depositAuthorization{})
}

// MsgTypeURL is of a message that this chain has: authz refuses others. Akash's is /akash.escrow.v1.MsgAccountDeposit.
func (a *depositAuthorization) MsgTypeURL() string { return sdk.MsgTypeURL(&authz.MsgExec{}) }

func (a *depositAuthorization) Accept(context.Context, sdk.Msg) (authz.AcceptResponse, error) {
	return authz.AcceptResponse{}, nil
}

func (a *depositAuthorization) ValidateBasic() error { return nil }

// The message is its bytes: what came in goes out again.

func (a *depositAuthorization) Reset()                      { a.raw = nil }
func (a *depositAuthorization) String() string              { return authorizationName }
func (a *depositAuthorization) ProtoMessage()               {}
func (a *depositAuthorization) Size() int                   { return len(a.raw) }
func (a *depositAuthorization) Marshal() ([]byte, error)    { return bytes.Clone(a.raw), nil }
func (a *depositAuthorization) Unmarshal(raw []byte) error  { a.raw = bytes.Clone(raw); return nil }
func (a *depositAuthorization) Descriptor() ([]byte, []int) { return authorizationFile, []int{0} }

func (a *depositAuthorization) MarshalTo(data []byte) (int, error) { return copy(data, a.raw), nil }

func (a *depositAuthorization) MarshalToSizedBuffer(data []byte) (int, error) {
	return copy(data[len(data)-len(a.raw):], a.raw), nil
}

// From proto/node/akash/escrow/v1/authz.proto. Fields that are not in it are refused, as by the real chain.
func describeAuthorization() []byte {
	coin := ".cosmos.base.v1beta1.Coin"
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, of string, repeated bool) *descriptorpb.FieldDescriptorProto {
		label := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		if repeated {
			label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		}
		return &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Type: &kind, Label: &label, TypeName: &of}
	}
	scope := func(name string, number int32) *descriptorpb.EnumValueDescriptorProto {
		return &descriptorpb.EnumValueDescriptorProto{Name: &name, Number: &number}
	}
	message, list := descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, descriptorpb.FieldDescriptorProto_TYPE_ENUM
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("akash/escrow/v1/authz.proto"), Package: proto.String("akash.escrow.v1"), Syntax: proto.String("proto3"),
		Dependency: []string{"cosmos/base/v1beta1/coin.proto"},
		Options:    &descriptorpb.FileOptions{GoPackage: proto.String("underbid/test/chain")},
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("DepositAuthorization"),
			Field: []*descriptorpb.FieldDescriptorProto{
				field("spend_limit", 1, message, coin, false),
				field("scopes", 2, list, "."+authorizationName+".Scope", true),
				field("spend_limits", 3, message, coin, true),
			},
			EnumType: []*descriptorpb.EnumDescriptorProto{{
				Name:  proto.String("Scope"),
				Value: []*descriptorpb.EnumValueDescriptorProto{scope("invalid", 0), scope("deployment", 1), scope("bid", 2)},
			}},
		}},
	}
	plain, err := proto.Marshal(file)
	if err != nil {
		panic(err)
	}
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	if _, err = writer.Write(plain); err == nil {
		err = writer.Close()
	}
	if err != nil {
		panic(err)
	}
	return packed.Bytes()
}
