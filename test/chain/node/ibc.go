package main

import (
	"context"
	"errors"

	storetypes "cosmossdk.io/store/types"
	upgradetypes "cosmossdk.io/x/upgrade/types"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/runtime"
	"github.com/cosmos/cosmos-sdk/types/module"
	authkeeper "github.com/cosmos/cosmos-sdk/x/auth/keeper"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	bankkeeper "github.com/cosmos/cosmos-sdk/x/bank/keeper"
	transfer "github.com/cosmos/ibc-go/v10/modules/apps/transfer"
	transferkeeper "github.com/cosmos/ibc-go/v10/modules/apps/transfer/keeper"
	transfertypes "github.com/cosmos/ibc-go/v10/modules/apps/transfer/types"
	ibc "github.com/cosmos/ibc-go/v10/modules/core"
	porttypes "github.com/cosmos/ibc-go/v10/modules/core/05-port/types"
	"github.com/cosmos/ibc-go/v10/modules/core/exported"
	ibckeeper "github.com/cosmos/ibc-go/v10/modules/core/keeper"
)

// IBC and its transfers, so that coins of other chains come to be as they do on Akash. Its modules are not made by
// depinject. There is no other chain here: channels lead over the client of this very chain (09-localhost).

// noUpgrades stands where Akash has its upgrade module; this chain is never upgraded.
type noUpgrades struct{ name string }

var errNoUpgrades = errors.New("this chain is never upgraded")

func (noUpgrades) GetUpgradePlan(context.Context) (upgradetypes.Plan, error) {
	return upgradetypes.Plan{}, errNoUpgrades
}
func (noUpgrades) GetUpgradedClient(context.Context, int64) ([]byte, error) {
	return nil, errNoUpgrades
}
func (noUpgrades) SetUpgradedClient(context.Context, int64, []byte) error { return errNoUpgrades }
func (noUpgrades) GetUpgradedConsensusState(context.Context, int64) ([]byte, error) {
	return nil, errNoUpgrades
}
func (noUpgrades) SetUpgradedConsensusState(context.Context, int64, []byte) error {
	return errNoUpgrades
}
func (noUpgrades) ScheduleUpgrade(context.Context, upgradetypes.Plan) error { return errNoUpgrades }

func addIBC(app *runtime.App, cdc codec.Codec, accounts authkeeper.AccountKeeper, bank bankkeeper.Keeper) error {
	ibcKey, transferKey := storetypes.NewKVStoreKey(exported.StoreKey), storetypes.NewKVStoreKey(transfertypes.StoreKey)
	if err := app.RegisterStores(ibcKey, transferKey); err != nil {
		return err
	}
	authority := authtypes.NewModuleAddress("gov").String()
	core := ibckeeper.NewKeeper(cdc, runtime.NewKVStoreService(ibcKey), nil, noUpgrades{"none"}, authority)
	transfers := transferkeeper.NewKeeper(cdc, runtime.NewKVStoreService(transferKey), nil, core.ChannelKeeper,
		core.ChannelKeeper, app.MsgServiceRouter(), accounts, bank, authority)
	core.SetRouter(porttypes.NewRouter().AddRoute(transfertypes.ModuleName, transfer.NewIBCModule(transfers)))
	return app.RegisterModules(ibc.NewAppModule(core), transfer.NewAppModule(transfers))
}

// addIBCBasics is for commands, which have no app.
func addIBCBasics(basics module.BasicManager, registry codectypes.InterfaceRegistry) {
	for _, one := range []module.AppModuleBasic{ibc.AppModuleBasic{}, transfer.AppModuleBasic{}} {
		basics[one.Name()] = one
		one.RegisterInterfaces(registry)
	}
}
