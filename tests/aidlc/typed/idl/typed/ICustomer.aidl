package typed;

oneway interface ICustomer {
    void served(int number);
}
