package typed;

import typed.ICustomer;
import typed.Order;

/** Takes orders. */
interface IShop {
    const int MAX_ORDERS = 10;

    /** A number for the order. */
    int order(in Order order, in String[] notes);

    /** How many there are, and all of them. */
    int list(out Order[] orders);

    void watch(ICustomer customer);
    @nullable ICustomer best(boolean always);
}
