"""The pipelines of the stored logs. Never change one: a version of a pipeline is the hash of its declaration.

Rules: `orders` fans out, gathers, joins, has keys, retries, a handled error and a breaker; `trips` has compensations
and a pivot. A record kind that needs another shape gets a pipeline of its own.
"""

from collections.abc import Iterator

from ensue import Breaker, Event, Pipeline, Retry, StepFailed

__all__ = [
    "Bill",
    "Customer",
    "Excused",
    "Flight",
    "Hotel",
    "Item",
    "Order",
    "Paid",
    "Priced",
    "Total",
    "Trip",
    "orders",
    "trips",
]


class Order(Event, key="customer"):
    customer: str
    items: int


class Item(Event):
    n: int


class Priced(Event):
    n: int
    amount: float


class Customer(Event):
    name: str


class Total(Event):
    amount: float


class Bill(Event):
    name: str
    amount: float


class Excused(Event):
    why: str


class Trip(Event):
    guest: str


class Hotel(Event):
    guest: str


class Flight(Event):
    guest: str


class Paid(Event):
    guest: str


orders = Pipeline("orders")


@orders.step
def split(order: Order) -> Iterator[Item]:
    for n in range(order.items):
        yield Item(n=n)


@orders.step(retry=Retry(attempts=3), breaker=Breaker(failures_in_row=2))
def price(item: Item) -> Priced:
    return Priced(n=item.n, amount=1.5)


@orders.on_error(price)
def excuse(failed: StepFailed) -> Excused:
    return Excused(why=failed.message)


@orders.step
def look_up(order: Order) -> Customer:
    return Customer(name=order.customer.title())


@orders.step
def total(prices: list[Priced]) -> Total:
    return Total(amount=sum(price.amount for price in prices))


@orders.step
def bill(total: Total, customer: Customer) -> Bill:
    return Bill(name=customer.name, amount=total.amount)


trips = Pipeline("trips")


@trips.step
def book_hotel(trip: Trip) -> Hotel:
    return Hotel(guest=trip.guest)


@trips.compensate(book_hotel)
def cancel_hotel(trip: Trip) -> None:
    return None


@trips.step
def book_flight(hotel: Hotel) -> Flight:
    return Flight(guest=hotel.guest)


@trips.compensate(book_flight)
def cancel_flight(hotel: Hotel) -> None:
    return None


@trips.step(pivot=True)
def pay(flight: Flight) -> Paid:
    return Paid(guest=flight.guest)


@trips.step
def notify(paid: Paid) -> None:
    return None


@trips.step
def invoice(paid: Paid) -> None:
    return None
