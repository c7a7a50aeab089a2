package avftest.kinds;

parcelable Native cpp_header "native.h";
