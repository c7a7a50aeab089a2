"""A program over generated contracts that type checkers have nothing to say about."""

import asyncio
import socket
from pathlib import Path

from avf.binder import Server, aio, connect, interface_cast, unix
from typed import ICustomer, ICustomerAsync, IShop, IShopAsync, Order


class Customer(ICustomer):
    def served(self, number: int) -> None:
        print(number)


class Shop(IShop):
    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.customer: ICustomer | None = None

    def order(self, order: Order, notes: list[str]) -> int:
        self.orders.append(order)
        if self.customer is not None:
            self.customer.served(len(self.orders))
        return min(len(self.orders), IShop.MAX_ORDERS)

    def list_(self, orders_length: int) -> tuple[int, list[Order]]:
        return len(self.orders), self.orders[:orders_length]

    def watch(self, customer: ICustomer) -> None:
        self.customer = customer

    def best(self, always: bool) -> ICustomer | None:
        return self.customer if always else None


class AsyncCustomer(ICustomerAsync):
    async def served(self, number: int) -> None:
        print(number)


class AsyncShop(IShopAsync):
    def __init__(self) -> None:
        self.blocking = Shop()

    async def order(self, order: Order, notes: list[str]) -> int:
        number = self.blocking.order(order, notes)
        if self.blocking.customer is not None:
            await aio.proxy(ICustomerAsync, self.blocking.customer).served(number)
        return number

    async def list_(self, orders_length: int) -> tuple[int, list[Order]]:
        return self.blocking.list_(orders_length)

    async def watch(self, customer: ICustomer) -> None:
        self.blocking.watch(customer)

    async def best(self, always: bool) -> ICustomer | None:
        return self.blocking.best(always)


def use(path: Path) -> None:
    with connect(unix(path)) as session:
        shop = session.get_root(IShop)
        number: int = shop.order(
            Order(size=Order.Size.LARGE, payment=Order.Payment(card="1234")), notes=["hot"]
        )
        count, orders = shop.list_(5)
        first: str = orders[0].what
        assert (number, count, first) == (1, 1, "tea")
        assert orders[0].payment.card == "1234"
        assert Order.from_dict(orders[0].to_dict()) == orders[0]
        shop.watch(Customer())
        best = shop.best(always=True)
        assert best is not None
        assert interface_cast(ICustomer, best) == best


async def use_async(path: Path) -> None:
    async with await aio.connect(unix(path), incoming_threads=1) as session:
        shop = await session.get_root(IShopAsync)
        customer = aio.binder(AsyncCustomer())
        await shop.watch(customer)
        number: int = await shop.order(Order(what="milk"), [])
        count, orders = await shop.list_(orders_length=5)
        assert number == count == len(orders)
        assert await shop.best(False) is None


def serve(path: Path) -> Server:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    server = Server(Shop())
    server.start(listener)
    return server


async def serve_async(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    async with aio.Server(AsyncShop()) as server:
        server.start(listener)
        await asyncio.to_thread(use, path)
        await use_async(path)


def run(folder: Path) -> None:
    server = serve(folder / "blocking")
    use(folder / "blocking")
    server.shutdown()
    asyncio.run(serve_async(folder / "asyncio"))
