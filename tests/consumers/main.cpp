// Calls the engine, or two that were compiled with different flags.

#ifdef REHYAT_TWO_ENGINES
int first_engine();
int second_engine();
int main() { return first_engine() + second_engine() + first_engine(); }
#else
int engine();
int main() { return engine(); }
#endif
